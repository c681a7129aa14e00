"""Exception types for failures that a user can fix.

Each message says what was found, what was expected, where, and what to do.
"""

import difflib
from collections.abc import Iterable


class SynthioError(Exception):
    """Base class of all expected failures; the command line prints them without a stack trace."""


class ConfigError(SynthioError):
    """A preset, dataset file, method, override or parameter is wrong."""


class DataError(SynthioError):
    """Audio, labels, captions or another input artifact is wrong."""


class StorageError(SynthioError):
    """Reading from or publishing to the run store failed."""

    away = False
    """Whether the store did not answer or was too busy, so that the same request may succeed later."""


class RegressionError(SynthioError):
    """A nightly study failed in part, got worse, or took longer; its trend page shows since when."""


class Interrupted(SynthioError):
    """SIGTERM arrived; finished work was saved, and the same command resumes from there."""


def one_line(error: Exception) -> str:
    """What an exception says, in one line; the name of its type if it says nothing."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """Build a `ConfigError` for `name` that suggests the nearest `known` names first."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return ConfigError(f"unknown {kind} {name!r}: {hint}valid: {', '.join(names)}")


def failure_text(error: BaseException) -> str:
    """What to say of an error in a list of failures: the message of one of ours, which says all; else the class too."""
    return str(error) if isinstance(error, SynthioError) else f"{type(error).__name__}: {error}"
