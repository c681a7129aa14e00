"""NSynth's layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from common.datasets.listing import list_layout
from common.errors import ConfigError, DataError

Put = Callable[..., Path]


def files(family: str = "bass") -> dict[str, str | None]:
    made: dict[str, str | None] = {}
    for split, instrument in (("train", "007"), ("valid", "033"), ("test", "068")):
        notes = {
            f"{family}_synthetic_{instrument}-{pitch}-025": {
                "note_str": f"{family}_synthetic_{instrument}-{pitch}-025",
                "instrument_str": f"{family}_synthetic_{instrument}",
                "instrument_family_str": family,
                "pitch": int(pitch),
            }
            for pitch in ("049", "050")
        }
        made[f"nsynth-{split}/examples.json"] = json.dumps(notes)
        made |= {f"nsynth-{split}/audio/{note}.wav": None for note in notes}
    return made


def test_the_family_is_the_label_and_the_instrument_the_group(put: Put) -> None:
    listing = list_layout("nsynth", put(files()))
    assert len(listing.rows) == 6
    assert {(row.split, row.label, row.group) for row in listing.rows} == {
        ("train", "bass", "bass_synthetic_007"),
        ("val", "bass", "bass_synthetic_033"),
        ("test", "bass", "bass_synthetic_068"),
    }
    assert all(row.path.is_file() for row in listing.rows)


def test_another_family_or_a_missing_part_is_an_error_that_says_so(put: Put) -> None:
    with pytest.raises(DataError, match="instrument family 'triangle'"):
        list_layout("nsynth", put(files("triangle")))
    lacking = {name: text for name, text in files().items() if not name.startswith("nsynth-valid")}
    with pytest.raises((ConfigError, DataError), match="nsynth-valid"):
        list_layout("nsynth", put(lacking))
