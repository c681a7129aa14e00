"""Catalogue of the stages: names, task titles, images, and image names on this machine."""

from __future__ import annotations

LOCAL_REGISTRY, LOCAL_TAG = "localhost/synthio", "dev"

STAGES = {
    "plan": "Check settings",
    "prepare_corpus": "Prepare the pretraining corpus",
    "prepare_dataset": "Prepare your dataset",
    "pretrain_t2a": "Pretrain text-to-audio",
    "pretrain_clap": "Pretrain CLAP",
    "pretrain_classifier": "Pretrain the classifier",
    "finetune_clap": "Fit CLAP to your dataset",
    "retrieve_audio": "Retrieve similar clips",
    "caption_clips": "Caption your clips",
    "augment_captions": "Write new captions",
    "synthesize_audio": "Generate clips",
    "align_t2a": "Align text-to-audio",
    "filter_audio": "Filter clips",
    "revise_captions": "Revise captions of rejected clips",
    "train_classifier": "Train classifiers",
    "evaluate_classifier": "Evaluate on the test split",
    "report": "Report",
    "plan_study": "Check the study",
    "record_cell": "Record the cell",
    "report_study": "Report the study",
    "record_night": "Record the night",
    "judge_study": "Judge the study",
}
"""Every stage with its task title on a run's page."""


LAYERS = {
    "base": ("plan", "prepare_dataset", "plan_study", "record_cell", "report_study", "record_night", "judge_study"),
    "torch": (
        *("finetune_clap", "retrieve_audio", "caption_clips", "augment_captions", "filter_audio", "revise_captions"),
        *("evaluate_classifier", "report"),
    ),
    "diffusion": ("prepare_corpus", "synthesize_audio", "align_t2a"),
    "augmentation": ("train_classifier",),
    "nano": ("pretrain_t2a", "pretrain_clap", "pretrain_classifier"),
}
"""Every image, named by its layer of the Dockerfile, with its stages; those on `base` import no model library."""


def layer_of(stage: str) -> str:
    """Layer of the Dockerfile, and name of the image, that a stage runs in."""
    return next(layer for layer, stages in LAYERS.items() if stage in stages)


def local_image(stage: str) -> str:
    """Name that `make images` gives on this machine to the image that a stage runs in."""
    return f"{LOCAL_REGISTRY}/{layer_of(stage)}:{LOCAL_TAG}"
