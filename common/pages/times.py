"""Section of times in a report, filled in when the run has ended, because a report itself holds results only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from html import unescape
from typing import Any

from markupsafe import escape

from common.errors import DataError
from common.pages.numbers import points

BEGIN = '<section id="run"'
END = "</section>"


def insert_run_section(html: str, run: Mapping[str, Any]) -> str:
    """Insert the times of a run into the section `run` of a report, replacing any earlier ones.

    Args:
        html: content of `report.html`.
        run: content of run.json: `stages` [{name, seconds, cached, state}], `wall_seconds`,
            `outside_models_share` (null = unknown), `machine` (text, or a record of texts).

    Raises:
        DataError: the page has no such section.
    """
    start = html.find(BEGIN)
    end = html.find(END, start)
    if start < 0 or end < 0:
        raise DataError('the report has no <section id="run">: it is not a report of this program, or was cut off')
    head = html[start : html.index(">", start) + 1]
    return html[:start] + head + _section(run) + cost_table(_costs(head), run.get("stages", [])) + html[end:]


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


def _costs(head: str) -> list[dict[str, Any]]:
    found = re.search(r'data-cost="([^"]*)"', head)
    return json.loads(unescape(found[1])) if found else []


def own_seconds(patterns: Sequence[str], stages: Sequence[Mapping[str, Any]]) -> float | None:
    """Total time of the stages that match `patterns`; None if one was cached, because its time is unknown."""
    own = [row for row in stages if any(fnmatchcase(str(row.get("name", "")), pattern) for pattern in patterns)]
    if any(row.get("cached") for row in own):
        return None
    return sum(float(row.get("seconds") or 0) for row in own)


def cost_table(costs: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]]) -> str:
    """Table of each method's own work per point gained over gold; empty without a method to compare.

    Args:
        costs: `cost` of report.json.
        stages: `stages` of run.json.
    """
    rows = "".join(_cost_row(row, own_seconds(row["stages"], stages)) for row in costs)
    if not rows:
        return ""
    return (
        "<h3>Time for each point gained</h3><p>A method’s own work: the stages beyond pretraining and training, which "
        "all methods share, in all replicates. Stages that work for several methods count fully for each, so it is "
        "what the method would take alone at most. Where the gain’s interval holds 0, no point was reliably gained. "
        "No price of this machine is stated, so no money either.</p>"
        '<div class="scroll" role="region" aria-label="Time for each point gained" tabindex="0"><table>'
        '<thead><tr><th scope="col">Method</th><th scope="col" class="num">Own work</th>'
        '<th scope="col" class="num">Points over gold</th>'
        '<th scope="col" class="num">Time for a point</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cost_row(row: Mapping[str, Any], seconds: float | None) -> str:
    if seconds is None:
        work = each = "not known: in the cache"
    else:
        work = duration(seconds) if row["stages"] else "none beyond training"
        each = duration(seconds / (100 * row["mean"])) if row["mean"] > 0 and row["stages"] else "none"
    if not row["reliable"]:
        each = "not reliable"
    gain = f"{points(row['mean'])} ({points(row['low'])} to {points(row['high'])})"
    return (
        f'<tr><th scope="row">{escape(row["title"])}</th><td class="num">{work}</td>'
        f'<td class="num">{gain}</td><td class="num">{each}</td></tr>'
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
    """Format seconds: `3.2 s`, `4 min 05 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
