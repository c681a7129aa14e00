"""What all HTML pages share: style, formats of numbers, charts; templates extend `base.html.j2` beside this file."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from common.pages import charts, numbers
from common.pages.direction import isolated

HERE = Path(__file__).parent


def render(template: Path, filters: Mapping[str, Callable[..., Any]] = {}, **variables: Any) -> str:
    """Render a self-contained page; every value is escaped except charts, and an undefined name is an error.

    The template extends `base.html.j2` and may call the functions of `common.pages.charts` as `charts`.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": _narrow(numbers.percent),
        "points": numbers.points,
        "number": numbers.number,
        "decimals": numbers.decimals,
        "fixed": partial(numbers.decimals, places=2),
        "between": numbers.between,
        "duration": numbers.duration,
        "narrow": _narrow(str),
        "isolated": isolated,
        **filters,
    }
    style = Markup((HERE / "page.css").read_text(encoding="utf-8"))
    return environment.get_template(template.name).render(charts=charts, style=style, **variables)


def _narrow(format_value: Callable[[Any], str]) -> Callable[[Any], str]:
    # A narrow no-break space keeps a number and its percent sign together.
    return lambda value: format_value(value).replace(" %", "\u202f%")
