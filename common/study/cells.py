"""Cells of a study, and what the run store keeps of studies: reports of cells, and the history of nights."""

import json
import re
import time

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from common.config.base import Frozen
from common.contracts.base import Contract
from common.contracts.report import Report
from common.contracts.study import Night
from common.datasets.registry import resolve_dataset
from common.errors import ConfigError, StorageError
from common.storage import ObjectStore, open_store, store_uri
from common.storage.hashing import hash_json

MAX_CELLS = 100
"""Upper bound of cells; loops with more iterations break Kubeflow's DAG state (kubeflow/pipelines, issue 12131)."""
KEPT = 400
"""Largest number of nights in a history; older ones are dropped."""

_BEGAN = "began.json"
_REPORTED = "reported.json"


class Cell(Frozen):
    """One dataset with one number of training clips."""

    dataset: str = Field(min_length=1, description="as the parameter `dataset` of the synthio pipeline")
    n: int = Field(default=0, ge=0, description="number of training clips; 0 = the dataset's default")
    data_version: str = Field(default="", description="hash of the dataset's files")

    @property
    def key(self) -> str:
        """Short hash, unique within a study."""
        return hash_json(self.model_dump(mode="json"))[:16]

    def names(self) -> tuple[str, int]:
        """Dataset name and number of clips, for people.

        Raises ConfigError: no such dataset, or neither it nor the cell gives a number of clips.
        """
        spec = resolve_dataset(self.dataset)
        return spec.name, self.n or spec.n or 0

    def clip_s(self) -> float:
        """Usual seconds of a clip. Raises ConfigError: no such dataset."""
        return resolve_dataset(self.dataset).clip_s


def parse_cells(text: str) -> tuple[Cell, ...]:
    """Parse a JSON list of `{"dataset": …, "n": …}`.

    Raises ConfigError: not such a list, empty, too long, or a cell occurs twice.
    """
    try:
        cells = TypeAdapter(tuple[Cell, ...]).validate_python(json.loads(text))
    except (ValueError, ValidationError) as error:
        raise ConfigError(
            f'cells: expected a JSON list such as [{{"dataset": "demo", "n": 50}}]; found {text[:80]!r}: {error}'
        ) from error
    if not 1 <= len(cells) <= MAX_CELLS:
        raise ConfigError(f"cells: {len(cells)} given; expected 1 to {MAX_CELLS}: split a larger study")
    names = [cell.names() for cell in cells]
    twice = sorted({f"{name} n={n}" for name, n in names if names.count((name, n)) > 1})
    if twice:
        raise ConfigError(f"cells: {', '.join(twice)} stands twice; name each dataset and each N once")
    return cells


def check_cells_per_run(cells: int, most: int) -> None:
    """Raise ConfigError for a run on a cluster with more cells than it bears, `cells_per_run` of the profile."""
    if cells > most:
        raise ConfigError(
            f"cells: {cells} in one run, of which Kubeflow bears {most} (1 MB for the state of a run); name fewer "
            "datasets or N, or raise cells_per_run of the profile where Argo offloads the state of nodes"
        )


def night_scope(run: str) -> str:
    """Scope in the store for the work of a night, by the id of its run, so that no night reuses another's work."""
    return f"nights/{_plain(run)}"


def _plain(run: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", run)


class Record(Contract):
    """A finished cell; `seconds` count from the start of the study until the report was written."""

    report: Report
    seconds: float


class Records:
    """Reports of a study's cells in the run store, by the id of the study's run.

    A failed cell leaves no output for a later task, so each finished cell stores its report here.
    """

    def __init__(self, run: str) -> None:
        self._objects: ObjectStore = open_store(store_uri()).child(f"study/{_plain(run)}")

    def begin(self) -> None:
        """Start the clock."""
        self._objects.write_bytes(_BEGAN, json.dumps(time.time()).encode())

    def clear(self) -> None:
        """Delete all that is recorded, once nobody asks for it."""
        for key in self._objects.list():
            self._objects.delete(key)

    def finish(self, state: str) -> None:
        """Store the state of the study's report, `complete` or `incomplete`, once the report is written."""
        self._objects.write_bytes(_REPORTED, json.dumps(state).encode())

    def state(self) -> str | None:
        """State of the study's report; None when it was not written."""
        if self._objects.size(_REPORTED) is None:
            return None
        return str(json.loads(self._objects.read_bytes(_REPORTED)))

    def seconds(self) -> float:
        """Seconds since the study began, waiting for nodes included."""
        return time.time() - float(json.loads(self._objects.read_bytes(_BEGAN)))

    def write(self, key: str, report: Report) -> None:
        """Store the content of a cell's report.json with its time."""
        self._objects.write_bytes(f"{key}.json", to_json(Record(report=report, seconds=self.seconds())))

    def read(self, cell: Cell) -> Record | None:
        """Record of a cell; None when it did not finish."""
        if self._objects.size(f"{cell.key}.json") is None:
            return None
        return Record.model_validate_json(self._objects.read_bytes(f"{cell.key}.json"))


def check_history(name: str) -> None:
    """Check the name of a history; empty = none.

    Raises ConfigError: the name is no object key in plain letters, which KFP's conditions also need.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]*", name):
        raise ConfigError(f"history {name!r}: expected letters, digits, dots, dashes and underscores")


class History:
    """History of nights in one object of the run store; reading it needs no listing."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._objects, self._key = store.child("history"), f"{name}.jsonl"

    def nights(self) -> list[Night]:
        """Read all nights, oldest first. Raises StorageError: the object is damaged."""
        if self._objects.size(self._key) is None:
            return []
        lines = self._objects.read_bytes(self._key).decode().splitlines()
        try:
            return [Night.model_validate(json.loads(line)) for line in lines]
        except (ValueError, ValidationError) as error:
            raise StorageError(
                f"{self._objects.uri}/{self._key} is no history of nights ({str(error)[:200]}): restore it, or move it "
                "away to begin a new one"
            ) from error

    def add(self, night: Night) -> list[Night]:
        """Append `night`, replacing an earlier record of the same run; return all nights."""
        nights = [*(other for other in self.nights() if other.run != night.run), night][-KEPT:]
        text = "".join(f"{night.model_dump_json()}\n" for night in nights)
        self._objects.write_bytes(self._key, text.encode())
        return nights
