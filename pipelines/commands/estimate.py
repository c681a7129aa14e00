"""Estimate memory and time of pretraining a preset's text-to-audio model (`make estimate PRESET=…`).

It also lists the published models that the preset needs; nothing is started.
"""

import argparse

from common.config.run import load_preset
from common.models.registry import describe
from pipelines.commands.arguments import number

OPTIONS = {"--preset": "paper", "--overrides": "", "--gpus": "1"}


def run(options: argparse.Namespace) -> int:
    """Print the published models and the estimate; exit status 0 = printed, 2 = the settings are wrong."""
    gpus, config = number("GPUS", options.gpus, 1), load_preset(options.preset, options.overrides)
    print("\n".join(["published models:", *(f"  {line}" for line in describe(config) or ["none"])]))
    settings = config.pretrain_t2a
    if settings.optim is None or settings.reuse is not None:
        print(f"pretrain_t2a: {settings.reuse or settings.start} is handed on, nothing is trained")
        return 0
    from components.pretrain_t2a.estimate import estimate_training, planned_numbers

    lines = estimate_training(settings, planned_numbers(config.prepare_corpus), gpus).lines()
    print("\n".join(["pretrain_t2a:", *(f"  {line}" for line in lines)]))
    return 0
