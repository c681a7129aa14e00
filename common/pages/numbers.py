"""Formatting of numbers: one format per kind of figure."""

from common.contracts.evaluation import Range

MINUS = "−"


def percent(share: float) -> str:
    """Format a share in percent: `0.4128` → `41.3 %`."""
    return f"{_signed(100 * share, 1, plus=False)} %"


def points(share: float) -> str:
    """Format a difference of shares in points: `0.072` → `+7.2`."""
    return _signed(100 * share, 1, plus=True)


def between(score: Range) -> str:
    """Format the interval of a share in percent: `38.1 to 45.2`."""
    return f"{decimals(100 * score.low, 1)} to {decimals(100 * score.high, 1)}"


def number(value: float | str) -> str:
    """Format with three significant digits, without an exponent where that is readable; strings stay unchanged."""
    if isinstance(value, str):
        return value
    if value == 0:
        return "0"
    if float(value).is_integer() and abs(value) < 1e6:
        return _signed(value, 0, plus=False)
    return f"{value:.3g}".replace("-", MINUS)


def decimals(value: float, places: int = 3) -> str:
    """Format with a fixed number of decimals."""
    return _signed(value, places, plus=False)


def _signed(value: float, places: int, *, plus: bool) -> str:
    rounded = round(value, places) + 0.0
    sign = MINUS if rounded < 0 else "+" if plus else ""
    return f"{sign}{abs(rounded):.{places}f}"


def duration(seconds: float) -> str:
    """Format seconds: `3.2 s`, `4 min 05 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
