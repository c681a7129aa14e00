"""Charts as inline SVG, in the page's own colours so that they follow its light and dark themes.

Every chart describes its data in words (`aria-label`), and colour is never the only distinction: series
differ in shape, dash or hatching too. Positions are percentages or small fixed boxes, so text keeps its
size on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from common.pages.numbers import number, percent, points

WIDTH, HEIGHT = 320, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 10, 34


def span(values: Sequence[float], step: float = 0.1, least: float = 0.2) -> tuple[float, float]:
    """Range of round numbers, multiples of `step` and at least `least` wide, that contains all values."""
    low, high = math.floor(min(values) / step) * step, math.ceil(max(values) / step) * step
    if high - low < least:
        high = low + least
    return low, high


def gain_domain(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Domain for gain bars of rows with low and high, with room on both sides of zero: no bar begins at the edge."""
    return span([-0.05, 0.05, *(row[key] for row in rows for key in ("low", "high"))], 0.05, 0.1)


def interval_bar(score: Mapping[str, float], domain: tuple[float, float], baseline: float | None = None) -> Markup:
    """A dot for the mean on a line for the interval, both in percent of the box's width.

    Args:
        score: mean, low, high.
        domain: values at the left and right edge.
        baseline: position of a dashed vertical line.
    """
    low, mean, high = (_place(score[key], domain) for key in ("low", "mean", "high"))
    line = "" if baseline is None else _dashed(_place(baseline, domain))
    label = f"{percent(score['mean'])}, interval {percent(score['low'])} to {percent(score['high'])}"
    body = (
        f'<line class="track" x1="0" x2="100%" y1="12" y2="12"/>{line}'
        f'<line class="whisker" x1="{low}%" x2="{high}%" y1="12" y2="12"/>{_caps(low, high)}'
        f'<circle class="dot" cx="{mean}%" cy="12" r="4.5"/>'
    )
    return Markup(f'<svg class="bar" role="img" aria-label="{label}" width="100%" height="24">{body}</svg>')


def gain_bar(gain: Mapping[str, float], domain: tuple[float, float]) -> Markup:
    """A bar from zero to the gain, with its interval; losses are hatched, and zero is a dashed line.

    Args:
        gain: mean, low, high as shares.
        domain: gains at the left and right edge; zero lies between them.
    """
    zero = _place(0.0, domain)
    low, mean, high = (_place(gain[key], domain) for key in ("low", "mean", "high"))
    left, width = min(mean, zero), abs(mean - zero)
    kind = "gain" if gain["mean"] >= 0 else "loss"
    label = f"{points(gain['mean'])} points, interval {points(gain['low'])} to {points(gain['high'])}"
    body = (
        f'<rect class="{kind}" x="{left:.3f}%" width="{width:.3f}%" y="5" height="14" />{_dashed(zero)}'
        f'<line class="whisker" x1="{low}%" x2="{high}%" y1="12" y2="12"/>{_caps(low, high)}'
    )
    return Markup(f'<svg class="bar" role="img" aria-label="{label}" width="100%" height="24">{body}</svg>')


def share_bar(parts: Sequence[tuple[str, float]], label: str) -> Markup:
    """One bar split into parts.

    Args:
        parts: CSS class and size of each.
        label: the same in words.
    """
    total = sum(size for _, size in parts) or 1.0
    body, left = "", 0.0
    for kind, size in parts:
        width = 100 * size / total
        body += f'<rect class="{kind}" x="{left:.3f}%" width="{width:.3f}%" y="5" height="14"/>'
        left += width
    return Markup(f'<svg class="bar" role="img" aria-label="{escape(label)}" width="100%" height="24">{body}</svg>')


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

    Args:
        accepted: values of accepted clips.
        rejected: values of rejected clips.
        thresholds: one per replicate.
        domain: values at the left and right edge.
        axis: name of the values.
    """
    counts = [_counts(values, domain, bins) for values in (accepted, rejected)]
    top = max(1, *(a + b for a, b in zip(*counts, strict=True)))
    box_width, box_height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    bars = ""
    for index, (good, bad) in enumerate(zip(*counts, strict=True)):
        x, width = _LEFT + box_width * index / bins, box_width / bins - 1
        for kind, count, under in (("gain", good, 0), ("loss", bad, good)):
            if count:
                height = box_height * count / top
                y = _TOP + box_height * (1 - (count + under) / top)
                bars += f'<rect class="{kind}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"/>'
    for value in thresholds:
        x = _LEFT + box_width * _place(value, domain) / 100
        bars += f'<line class="mark" x1="{x:.2f}" x2="{x:.2f}" y1="{_TOP}" y2="{_TOP + box_height}"/>'
    words = f"{label}: {len(accepted)} accepted, {len(rejected)} rejected, by {axis}"
    return _chart(words, bars, domain, (0.0, float(top)), axis, "clips")


def curves(series: Sequence[tuple[str, Sequence[float], Sequence[float]]], label: str, x_axis: str = "step") -> Markup:
    """Line chart, by default over training steps; each line has its own dash.

    Args:
        series: name, steps, values.
        label: name of the values.
        x_axis: name of the steps.
    """
    xs = [x for _, steps, _ in series for x in steps]
    ys = [y for _, _, values in series for y in values]
    x_domain = (0.0, float(max(xs)))
    y_domain = (min(ys), max(ys))
    box_width, box_height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    body, words = "", []
    for index, (name, steps, values) in enumerate(series):
        path = " ".join(
            f"{_LEFT + box_width * _place(x, x_domain) / 100:.2f},"
            f"{_TOP + box_height * (1 - _place(y, y_domain) / 100):.2f}"
            for x, y in zip(steps, values, strict=True)
        )
        body += f'<polyline class="line line{index % 6}" points="{path}"/>'
        words.append(f"{name} from {number(values[0])} to {number(values[-1])}")
    return _chart(f"{label}: {'; '.join(words)}", body, x_domain, y_domain, x_axis, "")


def line_key(index: int) -> Markup:
    """Legend sample of the line that `curves` draws for series number `index`."""
    line = f'<polyline class="line line{index % 6}" points="0,5 26,5"/>'
    return Markup(f'<svg class="key" width="26" height="10" aria-hidden="true">{line}</svg>')


def _chart(
    label: str, body: str, x_domain: tuple[float, float], y_domain: tuple[float, float], x_axis: str, y_axis: str
) -> Markup:
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    middle = (_LEFT + right) / 2
    texts = [
        (_LEFT, bottom + 13, "start", _tick(x_domain[0])),
        (right, bottom + 13, "end", _tick(x_domain[1])),
        (middle, bottom + 27, "middle", x_axis),
        (_LEFT - 5, bottom, "end", _tick(y_domain[0])),
        (_LEFT - 5, _TOP + 8, "end", _tick(y_domain[1])),
    ]
    ticks = "".join(f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(t)}</text>' for x, y, anchor, t in texts)
    turn = f"translate(11 {(bottom + _TOP) / 2:g}) rotate(-90)"
    turned = f'<text transform="{turn}" text-anchor="middle">{escape(y_axis)}</text>'
    frame = f'<path class="frame" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>'
    return Markup(
        f'<svg class="chart" role="img" aria-label="{escape(label)}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f"{body}{frame}{ticks}{turned}</svg>"
    )


def _tick(value: float) -> str:
    # Small numbers are rounded to fit beside the axis.
    return number(round(value, 3) if abs(value) < 1 else value)


def _counts(values: Sequence[float], domain: tuple[float, float], bins: int) -> list[int]:
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int(_place(value, domain) / 100 * bins))] += 1
    return counts


def _place(value: float, domain: tuple[float, float]) -> float:
    low, high = domain
    share = (value - low) / (high - low) if high > low else 0.5
    return round(100 * min(1.0, max(0.0, share)), 3)


def _caps(low: float, high: float) -> str:
    return "".join(f'<line class="whisker" x1="{x}%" x2="{x}%" y1="8" y2="16"/>' for x in (low, high))


def _dashed(place: float) -> str:
    return f'<line class="mark" x1="{place}%" x2="{place}%" y1="0" y2="24"/>'
