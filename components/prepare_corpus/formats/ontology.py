"""Weak captions of AudioSet clips, from its segments CSV, its class names and its ontology.

Source: github.com/aoifemcdonagh/audioset-processing, `data/balanced_train_segments.csv` at
144fbdf195590a09dea8fa713e7742d46c537dfd (comment lines), and github.com/jarammm/DrummerNet,
`balanced_train_segments.csv` at f4e8dbc636a44c04891d01ec5eac6553162dfdc9 (a header without `#`).
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from common.errors import DataError
from common.runtime.seeding import derive_seed
from components.prepare_corpus.captions import (
    BadRow,
    CaptionRow,
    Format,
    OnBad,
    clean_caption,
    convert,
    read_rows,
    read_table,
    segment_id,
    unreadable,
    youtube_id,
)

LABELS_FILE, ONTOLOGY_FILE = "class_labels_indices.csv", "ontology.json"
_MAX_ONTOLOGY_BYTES = 16 * 2**20
MAX_EVENTS = 5
"""Ours: more classes make no better prompt; the first ones are kept."""

_ONE = (
    "{a}",
    "the sound of {a}",
    "sounds of {a}",
    "a recording of {a}",
    "an audio clip of {a}",
    "{a} can be heard",
    "{a} is heard",
    "one can hear {a}",
)
_SEVERAL = (
    "{all}",
    "the sounds of {all}",
    "a recording of {all}",
    "an audio clip with {all}",
    "{all} can be heard",
    "{a} with {rest}",
    "{a}, along with {rest}",
    "{a} together with {rest}",
    "{a} and, at the same time, {rest}",
    "a mix of {all}",
)
_SETTINGS = {
    "inside, small room": ("in a small room", "inside a small room", "indoors, in a small room"),
    "inside, large room or hall": ("in a large room", "in a hall", "inside a large hall"),
    "inside, public space": ("in a public space", "indoors, in a public space"),
    "outside, urban or manmade": ("outdoors in the city", "in a city", "outside in an urban area"),
    "outside, rural or natural": ("outdoors in nature", "in the countryside", "outside in a rural area"),
    "reverberation": ("with reverberation", "in a reverberant place"),
    "echo": ("with an echo", "echoing"),
    "background noise": ("with background noise", "over background noise"),
    "environmental noise": ("with environmental noise", "over environmental noise"),
    "background music": ("with background music", "over background music"),
}
_WORDING = {
    "fill (with liquid)": ("a container being filled with liquid", "liquid filling a container"),
    "sink (filling or washing)": ("a sink being filled", "washing in a sink"),
    "bathtub (filling or washing)": ("a bathtub being filled", "washing in a bathtub"),
    "roaring cats (lions, tigers)": ("roaring big cats", "a roaring lion", "a roaring tiger"),
    "canidae, dogs, wolves": ("dogs", "wolves"),
    "donkey, ass": ("a donkey",),
    "cattle, bovinae": ("cattle",),
    "bee, wasp, etc.": ("a bee", "a wasp"),
    "tapping (guitar technique)": ("tapping on a guitar",),
    "scratching (performance technique)": ("a turntable being scratched", "record scratching"),
    "change ringing (campanology)": ("change ringing of bells", "church bells ringing in turn"),
    "fire engine, fire truck (siren)": ("a fire engine siren", "the siren of a fire truck"),
    "coin (dropping)": ("a dropping coin", "coins being dropped"),
    "filing (rasp)": ("filing with a rasp", "a rasp"),
}
_OPENING = re.compile(r"^(.+?) \((.+)\)$")


class _Node(BaseModel):
    id: str = Field(pattern=r"\S")
    name: str = Field(pattern=r"\S")
    child_ids: list[str]
    restrictions: list[str]


_NODES = TypeAdapter(Annotated[list[_Node], Field(min_length=1)])


@dataclass(frozen=True)
class Ontology:
    """AudioSet's classes by machine id.

    Attributes:
        ancestors: all classes above each class, via every parent.
        withheld: classes that name no sound (`abstract`) or were not rated reliably (`blacklist`).
    """

    display_names: Mapping[str, str]
    ancestors: Mapping[str, frozenset[str]]
    withheld: frozenset[str]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `ontology.json` and `class_labels_indices.csv`.

        Source: github.com/audioset/ontology, `ontology.json` at d417d32bf59c711abb5910fd2f76a0eb44697991: a list of
        objects with `id`, `name`, `child_ids` and `restrictions` (`abstract`, `blacklist`), 632 classes of which 89 are
        restricted; github.com/topel/audioset-convnext-inf, `metadata/class_labels_indices.csv` at
        f8e5632ae3ad43dafe12c6a861e16d96a49b70e6: `index,mid,display_name`, 527 classes.

        Raises DataError: a file is missing or malformed.
        """
        nodes = _nodes(folder / ONTOLOGY_FILE)
        parents: dict[str, list[str]] = {}
        for node in nodes:
            for child in node.child_ids:
                parents.setdefault(child, []).append(node.id)
        return cls(
            {node.id: node.name for node in nodes} | _labels(folder / LABELS_FILE),
            {node.id: _above(node.id, parents) for node in nodes},
            frozenset(node.id for node in nodes if node.restrictions),
        )

    def names(self, mids: Sequence[str]) -> list[str]:
        """Display names of the most specific of `mids`, deepest first, without ancestors and withheld classes."""
        known = [mid for mid in dict.fromkeys(mids) if mid in self.display_names and mid not in self.withheld]
        above = {mid: self.ancestors.get(mid, frozenset()) for mid in known}
        lowest = [mid for mid in known if mid not in frozenset().union(*above.values())]
        return [self.display_names[mid] for mid in sorted(lowest, key=lambda mid: -len(above[mid]))]


def _read(path: Path, on_bad: OnBad, seed: int) -> Iterator[CaptionRow]:
    """One caption per segment of an AudioSet segments CSV; the ontology's files must lie beside it.

    Rows are `YTID, start_seconds, end_seconds, positive_labels`, after comment lines; the machine ids of the labels
    are in one quoted cell. A row's `label` is set if a single class is left.
    """
    ontology = Ontology.load(path.parent)
    return convert(_segments(path, on_bad), lambda cells: [_row(cells, ontology, seed)], on_bad)


def _segments(path: Path, on_bad: OnBad) -> Iterator[tuple[str, list[str]]]:
    for number, (line, cells) in enumerate(read_rows(path, on_bad, comments=True)):
        if number == 0:
            if cells[0].strip().lower() == "ytid":
                continue
            if len(cells) != 4 and youtube_id(cells[0]) is None:
                raise unreadable(
                    path,
                    "expected YTID, start_seconds, end_seconds and positive_labels, found "
                    f"{', '.join(cells)!r:.80}; give AudioSet's segments CSV",
                )
        yield f"{path}, line {line}", cells


def _row(cells: Sequence[str], ontology: Ontology, seed: int) -> CaptionRow:
    if len(cells) != 4:
        raise BadRow("columns", f"expected 4 cells with the labels in quotes, found {len(cells)}")
    clip_id = segment_id(cells[0], cells[1])
    names = ontology.names([mid.strip() for mid in cells[3].split(",")])
    if not names:
        raise BadRow("no_label", f"none of the classes {cells[3]!r:.80} stands for a sound in {ONTOLOGY_FILE}")
    caption = clean_caption(write_weak_caption(names, clip_id, seed))
    return CaptionRow(clip_id, None, caption, names[0] if len(names) == 1 else None)


def _labels(path: Path) -> dict[str, str]:
    problems: list[str] = []
    table = read_table(
        path,
        lambda where, reason: problems.append(f"{where}: {reason}"),
        ("mid", "display_name"),
        "index, mid and display_name",
    )
    names = {cells["mid"]: cells["display_name"] for _, cells in table if cells["display_name"].strip()}
    if problems or not names:
        raise DataError(f"{path}: {problems[0] if problems else 'it names no class'}; give AudioSet's own file")
    return names


def _nodes(path: Path) -> list[_Node]:
    expected = "expected AudioSet's ontology.json, a list of objects with id, name, child_ids and restrictions"
    try:
        if path.stat().st_size > _MAX_ONTOLOGY_BYTES:
            raise DataError(f"{path} has more than {_MAX_ONTOLOGY_BYTES // 2**20} MB; {expected}")
        return _NODES.validate_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; put {path.name} beside the segments CSV") from error
    except ValidationError as error:
        raise DataError(f"cannot read {path}: {error.errors()[0]['msg']}; {expected}") from error


def _above(mid: str, parents: Mapping[str, Sequence[str]]) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(parents.get(mid, ()))
    while waiting:
        parent = waiting.pop()
        if parent not in found:
            found.add(parent)
            waiting += parents.get(parent, ())
    return frozenset(found)


def write_weak_caption(labels: Sequence[str], clip_id: str, seed: int) -> str:
    """Caption that names the sounds of a clip.

    The wording (sentence, order, synonym of a class) is seeded by the clip id, so that it depends neither on the order
    of clips nor on other captions. Acoustic settings (indoors, echo) end the sentence.

    Args:
        labels: AudioSet display names, such as `Male speech, man speaking`; see `Ontology.names`.

    Raises ValueError: no labels.
    """
    if not labels:
        raise ValueError("a caption needs at least one label")
    rng = random.Random(derive_seed(seed, "weak caption", clip_id))
    # Without duplicates, in the order given.
    names = list(dict.fromkeys(" ".join(label.replace("_", " ").lower().split()) for label in labels))
    settings = [name for name in names if name in _SETTINGS]
    events = [_wording(name, rng) for name in names if name not in _SETTINGS][:MAX_EVENTS]
    if not events:
        return f"a recording {rng.choice(_SETTINGS[settings[0]])}"
    rng.shuffle(events)
    if len(events) == 1:
        sentence = rng.choice(_ONE).format(a=events[0])
    else:
        sentence = rng.choice(_SEVERAL).format(a=events[0], rest=_listed(events[1:]), all=_listed(events))
    return f"{sentence} {rng.choice(_SETTINGS[rng.choice(settings)])}" if settings else sentence


def _wording(name: str, rng: random.Random) -> str:
    if name in _WORDING:
        return rng.choice(_WORDING[name])
    match = _OPENING.match(name)
    if match:
        # `chopping (food)` is food chopping, but `police car (siren)` a police car siren.
        name = f"{match[1]} {match[2]}" if match[2] == "siren" else f"{match[2]} {match[1]}"
    return rng.choice([part.removeprefix("and ") for part in name.split(", ")])


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _starts(cells: Sequence[str]) -> bool:
    return len(cells) == 4 and youtube_id(cells[0]) is not None and cells[3].startswith("/")


FORMAT = Format(_read, frozenset({"ytid", "positive_labels"}), beside=(LABELS_FILE, ONTOLOGY_FILE), starts=_starts)
