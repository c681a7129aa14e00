"""Check of a dataset before a run: facts and problems in seconds, without writing anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic_core import to_jsonable_python

from common.config.dataset import DatasetSpec, PrepareDatasetConfig
from common.contracts.gold import Findings, Health
from common.datasets.registry import fingerprint
from common.errors import SynthioError
from common.log import printable
from common.runtime.parallel import cpu_count
from components.prepare_dataset.dataset import Reading, check_quality, read_dataset
from components.prepare_dataset.health import findings, whole_health
from components.prepare_dataset.splitting import split_clips

_SHOWN = 10
_REPLICATES = (0, 1, 2)


@dataclass(frozen=True)
class DoctorReport:
    """Findings on a dataset: its health, without splits if they cannot be made, and what would stop a run."""

    name: str
    domain: str
    licence: str
    health: Findings
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether a run can start on this dataset."""
        return not self.problems

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {**to_jsonable_python(self), "ok": self.ok}

    def to_text(self) -> str:
        """As text for a terminal."""
        return "\n".join(_lines(self))


def examine(spec: DatasetSpec, settings: PrepareDatasetConfig, n: int | None) -> DoctorReport:
    """Read, check and split a dataset as a run would, with `n` training clips of a replicate; None = all."""
    try:
        fingerprint(spec)
        reading = read_dataset(spec, settings, None, cpu_count(), n)
    except SynthioError as error:
        nothing = findings(Reading([], [], [], 0, [], []))
        return DoctorReport(spec.name, spec.domain, spec.licence, nothing, (str(error),))
    problems: list[str] = []
    health = findings(reading)
    try:
        check_quality(reading, settings)
    except SynthioError as error:
        problems.append(str(error))
    try:
        splits = split_clips(reading.clips, reading.labels, spec, settings, n, _REPLICATES)
        health = whole_health(reading, splits)
    except SynthioError as error:
        problems.append(str(error))
    return DoctorReport(spec.name, spec.domain, spec.licence, health, tuple(problems))


def _lines(report: DoctorReport) -> list[str]:
    ending = [_row("PROBLEM", problem) for problem in report.problems]
    ending.append(_row("verdict", "ready" if report.ok else "not ready"))
    health = report.health
    if not health.counts["listed"]:
        return [f"{report.name}: no clip can be listed", *ending]
    seconds, counts = health.duration_s, health.counts
    lines = [
        f"{report.name}: {report.domain}; licence {report.licence}",
        _row("clips", _joined(counts)),
        _row("classes", f"{len(health.classes)}: {_joined(health.classes)}"),
        _row("groups", health.groups or "none given"),
        _row("rates", _joined(health.sample_rates_hz, " Hz")),
        _row("channels", _joined(health.channels)),
        _row("formats", _joined(health.formats)),
        _row(
            "durations",
            f"{seconds.shortest} to {seconds.longest} s, median {seconds.median} s, "
            f"{seconds.total / 60:.1f} min in all",
        ),
    ]
    if isinstance(health, Health):
        source = health.validation_from
        lines.append(
            _row(
                "splits",
                f"test by {health.test_split_by}, validation by {health.validation_split_by} "
                f"({'of its own' if source == 'official' else f'from {source} clips'})",
            )
        )
    if health.ignored_columns:
        lines.append(_row("ignored", f"columns {', '.join(health.ignored_columns)}"))
    if health.ignored_files:
        count = health.ignored_files_count if isinstance(health, Health) else len(health.ignored_files)
        lines.append(_row("ignored", _listed(health.ignored_files, "files", count)))
    for note, found in health.notes.items():
        lines.append(_row("note", f"{note}: {_listed(found.sources, 'clips', found.clips)}"))
    lines += [_row("duplicates", " = ".join(sources)) for sources in health.duplicates[:_SHOWN]]
    for drop in health.dropped[:_SHOWN]:
        lines.append(_row("left out", f"{drop.source}: {drop.reason} ({drop.detail})"))
    if len(health.dropped) > _SHOWN:
        lines.append(_row("left out", f"and {len(health.dropped) - _SHOWN} more"))
    lines += [_row("warning", warning) for warning in health.warnings]
    return [*lines, *ending]


def _row(name: str, value: object) -> str:
    return printable(f"  {name:<11}{value}")


def _joined(counts: Mapping[str, int], unit: str = "") -> str:
    shown = [f"{name}{unit} {count}" for name, count in list(counts.items())[: 2 * _SHOWN]]
    return ", ".join(shown) + (f" and {len(counts) - len(shown)} more" if len(counts) > len(shown) else "")


def _listed(sources: Sequence[str], what: str, total: int | None = None) -> str:
    total = len(sources) if total is None else total
    what = what.removesuffix("s") if total == 1 else what
    return f"{total} {what}: {', '.join(sources[:3])}" + (" …" if total > 3 else "")
