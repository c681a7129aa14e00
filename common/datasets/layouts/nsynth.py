"""NSynth: `nsynth-train`, `nsynth-valid` and `nsynth-test`, each with `examples.json` and `audio/<note>.wav`.

Seen: tensorflow/datasets, tensorflow_datasets/datasets/nsynth/nsynth_dataset_builder.py, commit
1aceae884e13ecd0aa18c6ee5d57339827e61509 (the three splits, the eleven families, `instrument_str` and
`instrument_family_str`, no instrument of train in valid or test); erl-j/audio-latent-space-cartography-demo,
src/pointData.js (an entry of nsynth-test/examples.json, and nsynth-test/audio/<note_str>.wav; commit
a6bf8d77054fa1c23ca5f02f41bf2daa4fc091d4). The archives themselves were not opened.
"""

from pathlib import Path

from common.datasets.native import check_folder, home, read_object, text_of
from common.datasets.rows import Listing, Row
from common.errors import DataError, unknown_name

SPLITS = {"train": "nsynth-train", "val": "nsynth-valid", "test": "nsynth-test"}
FAMILIES = ("bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal")


def list_clips(root: Path) -> Listing:
    """List all notes with the official split; the label is the instrument family, the group the instrument."""
    top = home(root, f"{SPLITS['train']}/examples.json", "NSynth (json/wav)")
    rows = []
    for split, folder in SPLITS.items():
        check_folder(top / folder, "examples.json and audio/")
        check_folder(top / folder / "audio", "the notes, such as bass_synthetic_068-049-025.wav")
        table = top / folder / "examples.json"
        for note, facts in sorted(read_object(table).items()):
            where = f"{table}, {note!r}"
            family = text_of(facts, "instrument_family_str", where)
            if family not in FAMILIES:
                raise DataError(f"{where}: {unknown_name('instrument family', family, FAMILIES)}")
            source = f"{folder}/audio/{note}.wav"
            rows.append(Row(top / source, source, family, split, text_of(facts, "instrument_str", where)))
    return Listing(rows=rows)
