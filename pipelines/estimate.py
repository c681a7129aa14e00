"""What pretraining a preset's text-to-audio model takes, before anything is started (`make estimate PRESET=…`)."""

from __future__ import annotations

import argparse
import sys

from common.config.run import load_preset
from common.errors import SynthioError
from common.models import describe
from pipelines.console import print_and_exit


def main() -> int:
    """Entry point: exit status 0 = printed, 2 = the settings are wrong."""
    parser = argparse.ArgumentParser(prog="make estimate", description=__doc__)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--overrides", default="")
    parser.add_argument("--gpus", type=int, default=1)
    options = parser.parse_args()
    try:
        config = load_preset(options.preset, options.overrides)
        print("\n".join(["published models:", *(f"  {line}" for line in describe(config) or ["none"])]))
        settings = config.pretrain_t2a
        if settings.optim is None or settings.reuse is not None:
            print(f"pretrain_t2a: {settings.reuse or settings.start} is handed on, nothing is trained")
            return 0
        from components.pretrain_t2a.estimate import estimate_training, planned_numbers

        lines = estimate_training(settings, planned_numbers(config.prepare_corpus), options.gpus).lines()
        print("\n".join(["pretrain_t2a:", *(f"  {line}" for line in lines)]))
    except SynthioError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    print_and_exit(main)
