"""Health of a small dataset."""

from __future__ import annotations

from common.contracts.gold import Drop, Durations, Health, HeldOutHealth, Noted

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
