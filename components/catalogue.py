"""Catalogue of the stages: names, task titles, and image names on this machine."""

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


def target_of(stage: str) -> str:
    """Dockerfile target of a stage."""
    return stage.replace("_", "-")


def local_image(stage: str) -> str:
    """Name that `make images` gives to a stage's image on this machine."""
    return f"{LOCAL_REGISTRY}/{target_of(stage)}:{LOCAL_TAG}"
