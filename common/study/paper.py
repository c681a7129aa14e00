"""Published figures: Table 1 of arXiv 2410.02056, accuracy (FSD50K: mAP) in percent."""

import csv
from functools import cache
from pathlib import Path

TABLE = Path(__file__).parent / "paper_table1.csv"

DATASETS = {
    "esc50": "ESC50",
    "urbansound8k": "USD8K",
    "gtzan": "GTZAN",
    "medley_solos_db": "Medley",
    "tut2018": "TUT",
    "nsynth": "NSynth",
    "vocalsound": "VS",
    "musdb18": "MSDB",
    "dcase2017_task4": "DCASE",
    "fsd50k": "FSD50K",
}
"""Column of the table by registered dataset name."""

METHODS = {
    "gold": "Gold-only",
    "noise": "Random noise",
    "pitch_shift": "Pitch shift",
    "specaugment": "SpecAugment",
    "audiomentations": "Audiomentations",
    "retrieval": "Retrieval",
    "vanilla": "Vanilla syn. aug.",
    "llm_captions": "+ LLM caps",
    "synthio": "Synthio",
    "synthio_template": "w/ template caps",
    "synthio_erm": "w/ ERM",
    "synthio_no_reflection": "w/o self-reflection",
    "synthio_no_mixcap": "w/o MixCap",
    "synthio_no_dpo": "w/o DPO",
}
"""Row of the table by method."""


@cache
def _table() -> dict[tuple[str, int, str], float]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {
            (row["method"], int(row["n"]), row["dataset"]): float(row["value"])
            for row in csv.DictReader(file)
            if row["value"]
        }


def published(dataset: str, n: int, method: str) -> float | None:
    """Figure of the paper in percent; None where the table has none."""
    return _table().get((METHODS.get(method, ""), n, DATASETS.get(dataset, "")))
