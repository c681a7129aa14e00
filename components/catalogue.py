"""The stages: their names, the titles of their tasks, and their images on this machine."""

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
    "judge_night": "Judge the night",
}
"""Every stage, with the title of its tasks on a run's page."""


def target_of(stage: str) -> str:
    """The Dockerfile target of a stage."""
    return stage.replace("_", "-")


def local_image(stage: str) -> str:
    """The name that `make images` gives the image of a stage on this machine."""
    return f"{LOCAL_REGISTRY}/{target_of(stage)}:{LOCAL_TAG}"
