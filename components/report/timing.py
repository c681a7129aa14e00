"""The section of times, which is filled in when a run has ended: a report holds results only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import escape

from common.errors import DataError

BEGIN = '<section id="run"'
END = "</section>"


def insert_run_section(html: str, run: Mapping[str, Any]) -> str:
    """The report with the times of a run in its section `run`; done twice, the second run's times stand there.

    Args:
        html: of `report.html`.
        run: of run.json: `stages` [{name, seconds, cached, state}], `wall_seconds`,
            `outside_models_share` (null = unknown), `machine` (text, or a record of texts).

    Raises:
        DataError: the page has no such section.
    """
    start = html.find(BEGIN)
    end = html.find(END, start)
    if start < 0 or end < 0:
        raise DataError('the report has no <section id="run">: it is not a report of this program, or was cut off')
    head = html[start : html.index(">", start) + 1]
    return html[:start] + head + _section(run) + html[end:]


def _section(run: Mapping[str, Any]) -> str:
    stages = list(run.get("stages", []))
    longest = max((float(stage.get("seconds") or 0) for stage in stages), default=0.0) or 1.0
    rows = "".join(_row(stage, longest) for stage in stages)
    machine = _machine(run.get("machine", ""))
    wall, share = run.get("wall_seconds"), run.get("outside_models_share")
    facts = [] if wall is None else [f"Wall time {duration(float(wall))}"]
    if share is not None:
        facts.append(f"{100 * float(share):.1f} % of it outside the models (imports, orchestration, files)")
    facts += [f"Machine: {machine}"] if machine else []
    return (
        f"<h2>Time per stage</h2><p>{escape('. '.join(facts))}.</p>"
        '<div class="scroll" role="region" aria-label="Time per stage" tabindex="0"><table>'
        '<thead><tr><th scope="col">Stage</th><th scope="col" class="num">Time</th>'
        '<th scope="col" class="wide"><span class="hidden">Share of the longest</span></th>'
        '<th scope="col">State</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _machine(machine: Any) -> str:
    if not isinstance(machine, Mapping):
        return str(machine)
    known = {"cpu": "{}", "cores": "{} cores", "memory_gb": "{} GB memory", "python": "Python {}"}
    parts = [text.format(machine[key]) for key, text in known.items() if machine.get(key)]
    parts += [f"{key.replace('_', ' ')} {value}" for key, value in machine.items() if key not in known and value]
    return ", ".join(parts)


def _row(stage: Mapping[str, Any], longest: float) -> str:
    seconds = float(stage.get("seconds") or 0)
    width = 100 * seconds / longest
    state = "from the cache" if stage.get("cached") else str(stage.get("state", "")).lower()
    box = f'<rect class="gain" width="{width:.2f}%" y="7" height="10"/>'
    bar = f'<svg class="bar" aria-hidden="true" width="100%" height="24">{box}</svg>'
    name = escape(str(stage.get("name", "")))
    return (
        f'<tr><th scope="row">{name}</th><td class="num">{duration(seconds)}</td>'
        f'<td class="wide">{bar}</td><td>{escape(state)}</td></tr>'
    )


def duration(seconds: float) -> str:
    """`3.2 s`, `4 min 05 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
