"""The kinds of failure a user can do something about.

Each message says what was found, what was expected, where, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SynthioError(Exception):
    """Base of all expected failures: printed without a stack trace at the command line."""


class ConfigError(SynthioError):
    """A preset, dataset file, method, override or parameter is wrong."""


class DataError(SynthioError):
    """Audio, labels, captions or another input artifact is wrong."""


class StorageError(SynthioError):
    """Reading from or publishing to the run store failed."""


class RegressionError(SynthioError):
    """A nightly study failed in part, got worse, or took longer; its trend page shows since when."""


class Interrupted(SynthioError):
    """SIGTERM came: the work was saved as far as it went, and the same command goes on from there."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """A `ConfigError` for `name` that lists the nearest of the `known` names first."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return ConfigError(f"unknown {kind} {name!r}: {hint}valid: {', '.join(names)}")
