"""Registries: a package in which every module holds one record under the module's name.

Names come from the package's folder, so that settings can be checked without importing what they name.
"""

import pkgutil
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError


def names(package: str) -> tuple[str, ...]:
    """Names of the modules of a package, such as `common.datasets.layouts`, sorted."""
    spec = find_spec(package)
    assert spec is not None
    return tuple(sorted(module.name for module in pkgutil.iter_modules(spec.submodule_search_locations)))


def member(package: str, name: str) -> Any:
    """Module of a package; the code version of whoever calls this counts all modules of a package named in the call."""
    return import_module(f"{package}.{name}")


def one_of(package: str, *further: str) -> AfterValidator:
    """Annotation of a setting that takes the name of a module of `package`, or one of `further`."""

    def check(name: str) -> str:
        known = (*further, *names(package))
        if name not in known:
            raise PydanticCustomError("one_of", f"Input should be {', '.join(map(repr, known))}")
        return name

    return AfterValidator(check)
