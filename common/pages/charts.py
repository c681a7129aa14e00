"""Charts as inline SVG, in the page's own colours so that they follow its light and dark themes.

Every chart describes its data in words (`aria-label`), and colour is never the only distinction: series
differ in shape, dash or hatching too. Positions are percentages or small fixed boxes, so text keeps its
size on a phone.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from markupsafe import Markup, escape

from common.contracts.evaluation import Range
from common.pages.direction import isolated
from common.pages.numbers import number

WIDTH, HEIGHT = 320, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 10, 34
_BOX = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
STYLES = 8
"""Number of the classes `line0`, `line1`, … in page.css."""


def span(values: Sequence[float], step: float = 0.1, least: float = 0.2) -> tuple[float, float]:
    """Range of round numbers, multiples of `step` and at least `least` wide, that contains all values."""
    low, high = math.floor(min(values) / step) * step, math.ceil(max(values) / step) * step
    if high - low < least:
        high = low + least
    return low, high


def gain_domain(gains: Sequence[Range]) -> tuple[float, float]:
    """Domain for gain bars with room on both sides of zero: no bar begins at the edge."""
    return span([-0.05, 0.05, *(end for gain in gains for end in (gain.low, gain.high))], 0.05, 0.1)


def place(value: float, domain: tuple[float, float]) -> float:
    """Position of a value on an axis, in percent of its width; values beyond an edge stand there."""
    low, high = domain
    share = (value - low) / (high - low) if high > low else 0.5
    return round(100 * min(1.0, max(0.0, share)), 3)


def histogram(
    accepted: Sequence[float],
    rejected: Sequence[float],
    thresholds: Sequence[float],
    domain: tuple[float, float],
    axis: str,
    label: str,
    bins: int = 24,
) -> Markup:
    """Stacked histogram of accepted (solid) and rejected (hatched) clips, with the thresholds as dashed lines.

    It reaches from the first value of `domain` to the second.
    """
    counts = [_counts(values, domain, bins) for values in (accepted, rejected)]
    top = max(1, *(a + b for a, b in zip(*counts, strict=True)))
    bars = ""
    for index, (good, bad) in enumerate(zip(*counts, strict=True)):
        x, width = _LEFT + _BOX[0] * index / bins, _BOX[0] / bins - 1
        for kind, count, under in (("gain", good, 0), ("loss", bad, good)):
            if count:
                height = _BOX[1] * count / top
                y = _TOP + _BOX[1] * (1 - (count + under) / top)
                bars += f'<rect class="{kind}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"/>'
    bars += "".join(_mark(_LEFT + _BOX[0] * place(value, domain) / 100) for value in thresholds)
    words = f"{isolated(label)}: {len(accepted)} accepted, {len(rejected)} rejected, by {axis}"
    ticks = [(_LEFT, _tick(domain[0])), (WIDTH - _RIGHT, _tick(domain[1]))]
    return _chart(words, bars, ticks, (0.0, float(top)), axis, "clips")


class Line(NamedTuple):
    """A line of `curves`, with the low and high end of each point's interval where there are any."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    intervals: Sequence[tuple[float, float]] = ()


def curves(
    lines: Sequence[Line],
    label: str,
    x_axis: str = "step",
    y_axis: str = "",
    *,
    ticks: Mapping[float, str] = {},
    log: bool = False,
    floor: float | None = None,
    dots: Literal["none", "last", "all"] = "none",
    marks: Sequence[float] = (),
) -> Markup:
    """Line chart, by default over training steps; each line has its own colour and dash, which `legend` explains.

    Args:
        ticks: x of the labels below the axis, which reaches from the first to the last; default: 0 and the largest x.
        floor: value at the foot of the y axis; default: the smallest.
    """
    xs = [x for line in lines for x in line.xs]
    ys = [y for line in lines for y in (*line.ys, *(end for ends in line.intervals for end in ends))]
    named = dict(ticks) or {0.0: "0", float(max(xs)): _tick(float(max(xs)))}
    scale = (lambda x: math.log(max(1, x))) if log else float
    x_domain = (scale(min(named)), scale(max(named)))
    y_domain = (min(ys) if floor is None else floor, max(ys))

    def x_of(x: float) -> float:
        return round(_LEFT + _BOX[0] * place(scale(x), x_domain) / 100, 2)

    def y_of(y: float) -> float:
        return round(_TOP + _BOX[1] * (1 - place(y, y_domain) / 100), 2)

    body, words = "".join(_mark(x_of(x)) for x in marks), []
    for index, line in enumerate(lines):
        path = " ".join(f"{x_of(x):.2f},{y_of(y):.2f}" for x, y in zip(line.xs, line.ys, strict=True))
        style = f"line{index % STYLES}"
        body += f'<polyline class="line {style}" points="{path}"/>'
        for x, (low, high) in zip(line.xs, line.intervals, strict=False):
            body += f'<line class="within {style}" x1="{x_of(x)}" x2="{x_of(x)}" y1="{y_of(low)}" y2="{y_of(high)}"/>'
        for x, y in list(zip(line.xs, line.ys, strict=True))[{"none": len(line.xs), "last": -1, "all": 0}[dots] :]:
            title = f"<title>{escape(line.name)}, {escape(named.get(x, number(x)))}: {number(y)}</title>"
            body += f'<circle class="point {style}" cx="{x_of(x)}" cy="{y_of(y)}" r="2.5">{title}</circle>'
        words.append(f"{line.name} {_first_to_last(line)}")
    unit = f" in {y_axis}" if y_axis else ""
    texts = [(x_of(x), text) for x, text in sorted(named.items())]
    return _chart(f"{label}{unit}: {'; '.join(words)}", body, texts, y_domain, x_axis, y_axis)


def legend(lines: Sequence[Line], values: bool = False) -> Markup:
    """Names of the lines of `curves` with a sample of each; with `values` also the first and the last one."""
    keys = [
        f'<li><svg class="key" width="26" height="10" aria-hidden="true">'
        f'<polyline class="line line{index % STYLES}" points="0,5 26,5"/></svg>'
        f"{escape(f'{line.name} {_first_to_last(line)}' if values else line.name)}</li>"
        for index, line in enumerate(lines)
    ]
    return Markup(f'<ul class="legend">{"".join(keys)}</ul>')


def _first_to_last(line: Line) -> str:
    ends = [number(line.ys[place]) for place in (0, -1)]
    return f"from {ends[0]} to {ends[1]}" if len(line.ys) > 1 else ends[0]


def _chart(
    label: str, body: str, ticks: Sequence[tuple[float, str]], y_domain: tuple[float, float], x_axis: str, y_axis: str
) -> Markup:
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    anchors = {ticks[0][0]: "start", ticks[-1][0]: "end"} if len(ticks) > 1 else {}
    texts = [(x, bottom + 13, anchors.get(x, "middle"), text) for x, text in ticks]
    texts += [
        ((_LEFT + right) / 2, bottom + 27, "middle", x_axis),
        (_LEFT - 5, bottom, "end", _tick(y_domain[0])),
        (_LEFT - 5, _TOP + 8, "end", _tick(y_domain[1])),
    ]
    words = "".join(f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(t)}</text>' for x, y, anchor, t in texts)
    turn = f"translate(11 {(bottom + _TOP) / 2:g}) rotate(-90)"
    turned = f'<text transform="{turn}" text-anchor="middle">{escape(y_axis)}</text>'
    frame = f'<path class="frame" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>'
    return Markup(
        f'<svg class="chart" role="img" aria-label="{escape(label)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f"{body}{frame}{words}{turned}</svg>"
    )


def _mark(x: float) -> str:
    return f'<line class="mark" x1="{x:.2f}" x2="{x:.2f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'


def _tick(value: float) -> str:
    # Small numbers are rounded to fit beside the axis.
    return number(round(value, 3) if abs(value) < 1 else value)


def _counts(values: Sequence[float], domain: tuple[float, float], bins: int) -> list[int]:
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int(place(value, domain) / 100 * bins))] += 1
    return counts
