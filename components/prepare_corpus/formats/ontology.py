"""Weak captions of AudioSet clips, from its segments CSV, its class names and its ontology."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import DataError
from components.prepare_corpus.captions.records import (
    BadRow,
    CaptionRow,
    Format,
    OnBad,
    clean_caption,
    clean_youtube_id,
    convert,
    youtube_id,
)
from components.prepare_corpus.captions.tables import read_rows, read_table
from components.prepare_corpus.captions.weak_captions import write_weak_caption

LABELS_FILE, ONTOLOGY_FILE = "class_labels_indices.csv", "ontology.json"
_MAX_ONTOLOGY_BYTES = 16 * 2**20
_LAST_START_S = 10**6


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
    def load(cls, folder: Path) -> Ontology:
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
            for child in node["child_ids"]:
                parents.setdefault(child, []).append(node["id"])
        names = {node["id"]: node["name"] for node in nodes}
        names.update(_labels(folder / LABELS_FILE))
        return cls(
            names,
            {node["id"]: _above(node["id"], parents) for node in nodes},
            frozenset(node["id"] for node in nodes if node["restrictions"]),
        )

    def names(self, mids: Sequence[str]) -> list[str]:
        """Display names of the most specific of `mids`, deepest first, without ancestors and withheld classes."""
        known = [mid for mid in dict.fromkeys(mids) if mid in self.display_names and mid not in self.withheld]
        above = frozenset().union(*(self._above(mid) for mid in known))
        return [
            self.display_names[mid]
            for mid in sorted((mid for mid in known if mid not in above), key=lambda mid: -len(self._above(mid)))
        ]

    def _above(self, mid: str) -> frozenset[str]:
        return self.ancestors.get(mid, frozenset())


def _read(path: Path, on_bad: OnBad, seed: int) -> Iterator[CaptionRow]:
    """One caption per segment of an AudioSet segments CSV; the ontology's files must lie beside it.

    Rows are `YTID, start_seconds, end_seconds, positive_labels`, after comment lines; the machine ids of the labels
    are in one quoted cell. A row's `label` is set if a single class is left.

    Source: github.com/aoifemcdonagh/audioset-processing, `data/balanced_train_segments.csv` at
    144fbdf195590a09dea8fa713e7742d46c537dfd (comment lines), and github.com/jarammm/DrummerNet,
    `balanced_train_segments.csv` at f4e8dbc636a44c04891d01ec5eac6553162dfdc9 (a header without `#`).
    """
    ontology = Ontology.load(path.parent)
    rows = ((f"{path}, line {line}", cells) for line, cells in read_rows(path, on_bad, comments=True, spaces=True))
    return convert(_segments(path, rows), lambda cells: [_row(cells, ontology, seed)], on_bad)


def _segments(path: Path, rows: Iterator[tuple[str, list[str]]]) -> Iterator[tuple[str, list[str]]]:
    for number, (where, cells) in enumerate(rows):
        if number == 0:
            if cells[0].strip().lower() == "ytid":
                continue
            if len(cells) != 4 and youtube_id(cells[0]) is None:
                raise DataError(
                    f"cannot read captions from {path}: expected YTID, start_seconds, end_seconds and positive_labels, "
                    f"found {', '.join(cells)!r:.80}; give AudioSet's segments CSV"
                )
        yield where, cells


def _row(cells: Sequence[str], ontology: Ontology, seed: int) -> CaptionRow:
    if len(cells) != 4:
        raise BadRow("columns", f"expected 4 cells with the labels in quotes, found {len(cells)}")
    try:
        start_s = float(cells[1])
    except ValueError:
        start_s = -1.0
    if not 0 <= start_s < _LAST_START_S:
        raise BadRow("start_time", f"expected seconds from the start of the video, found {cells[1]!r:.60}")
    clip_id = f"{clean_youtube_id(cells[0])}_{round(start_s * 1000)}"
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


def _nodes(path: Path) -> list[dict[str, Any]]:
    expected = "expected AudioSet's ontology.json, a list of objects with id, name, child_ids and restrictions"
    try:
        if path.stat().st_size > _MAX_ONTOLOGY_BYTES:
            raise DataError(f"{path} has more than {_MAX_ONTOLOGY_BYTES // 2**20} MB; {expected}")
        nodes = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; put {path.name} beside the segments CSV") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path}: {error}; {expected}") from error
    if not isinstance(nodes, list) or not nodes or not all(_is_node(node) for node in nodes):
        raise DataError(f"{path} holds something else; {expected}")
    return nodes


def _is_node(node: Any) -> bool:
    return (
        isinstance(node, dict)
        and all(isinstance(node.get(key), str) and node[key].strip() for key in ("id", "name"))
        and all(
            isinstance(node.get(key), list) and all(isinstance(item, str) for item in node[key])
            for key in ("child_ids", "restrictions")
        )
    )


def _above(mid: str, parents: Mapping[str, Sequence[str]]) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(parents.get(mid, ()))
    while waiting:
        parent = waiting.pop()
        if parent not in found:
            found.add(parent)
            waiting += parents.get(parent, ())
    return frozenset(found)


def _starts(cells: Sequence[str]) -> bool:
    return len(cells) == 4 and youtube_id(cells[0]) is not None and cells[3].startswith("/")


FORMAT = Format(_read, frozenset({"ytid", "positive_labels"}), beside=(LABELS_FILE, ONTOLOGY_FILE), starts=_starts)
