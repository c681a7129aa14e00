"""Contents of artifacts: the health of a small dataset, a chosen training."""

from __future__ import annotations

from typing import Any

from common.contracts.gold import Drop, Durations, Health, HeldOutHealth, Noted
from common.contracts.training import Chosen

HEALTH = Health(
    clips=23,
    classes={"bell": 23},
    sample_rates_hz={"16000": 20, "44100": 3},
    channels={"1": 20, "2": 3},
    formats={"WAV PCM_16": 23},
    groups=0,
    duration_s=Durations(shortest=0.4, longest=2.0, median=0.6, total=14.2),
    dropped=[Drop("a/silent.wav", "silent", "nothing above -60 dBFS")],
    warnings=["class <b>rain</b> has few clips"],
    notes={"clipping": Noted(clips=1, sources=["loud.wav"])},
    counts={"listed": 24, "usable": 23, "dropped": 1},
    duplicates=[],
    ignored_columns=[],
    ignored_files=[],
    test_split_by="clip",
    dropped_by_reason={"silent": 1},
    warning_codes=["few"],
    duplicate_sets=1,
    ignored_files_count=0,
    clips_cut=0,
    seconds_cut=0.0,
    validation_from="remaining",
    validation_split_by="clip",
    validation_from_training=False,
)
TEST_HEALTH = HeldOutHealth(
    **{name: getattr(HEALTH, name) for name in HeldOutHealth.model_fields}
    | {"dropped": [Drop("broken <i>.wav", "truncated", "")], "warnings": []}
)


def chosen(**figures: Any) -> Chosen:
    """A training that validation chose, with some of its figures."""
    told = {"val_accuracy": 0.5, "val_macro_f1": 0.5, "val_loss": 1.0, "steps": 10, "examples": 40, "factor": None}
    clips = {"gold_clips": 4, "synthetic_clips": 0, "slot": {"synthetic": 0, "gold": 20}, "gold_stands_in_for": []}
    return Chosen.model_validate(
        {"classic": "none", "strength": None, "curve": [], "tried": [], **told, **clips, **figures}
    )
