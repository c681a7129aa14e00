"""Commands of the Makefile, one module each with `OPTIONS` and `run(options) -> exit status`.

A module's docstring is the command's help text.
"""

import argparse
import importlib
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from common.errors import ConfigError, SynthioError, unknown_name
from common.log import printable
from pipelines.commands.options import declare
from pipelines.local.tasks import Stopped

COMMANDS = (
    *("run-pipeline", "benchmark", "report", "remake", "classify", "export-onnx"),
    *("list-datasets", "fetch-data", "fetch-models", "doctor", "estimate", "nano-corpus", "nano"),
    *("compile", "images", "push-data", "schedule-nightly", "trend", "train-job"),
)
"""Names of the commands; the module of `run-pipeline` is `run_pipeline`."""

_CONTRIB = {
    **{"nano": "nano.train", "nano-corpus": "nano.make", "schedule-nightly": "nightly"},
    **{"trend": "trend", "train-job": "train_job"},
}
"""Commands whose modules are in `contrib`."""


class _Parser(argparse.ArgumentParser):
    """Parser that tells a mistake in one line, by the names of make's variables."""

    def error(self, message: str) -> NoReturn:
        told = re.sub(r"--([a-z0-9-]+)", lambda match: match[1].upper().replace("-", "_"), message)
        raise ConfigError(f"{self.prog}: {told}; docs/COMMANDS.md lists the variables")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; `arguments`, by default those of this process, are its name and its options.

    Returns exit status: the command's own (0 = done, 1 = partly failed), 2 = bad input, reported in one line, or 128 +
    the number of the signal that ended it.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal in Latin-1 lacks characters, and file names of old archives are no Unicode.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments), ""]
    try:
        if name not in COMMANDS:
            raise unknown_name("command", name, COMMANDS)
        # Bars of transformers while it loads a model tell nothing; those of downloads do.
        if name != "fetch-models":
            os.environ.setdefault("TQDM_DISABLE", "1")
        place = f"contrib.{_CONTRIB[name]}" if name in _CONTRIB else f"pipelines.commands.{name.replace('-', '_')}"
        command = importlib.import_module(place)
        parser = _Parser(prog=f"make {name}", description=command.__doc__)
        declare(parser, command.OPTIONS)
        status = int(command.run(parser.parse_args(rest[:-1])))
        sys.stdout.flush()
        return status
    except SynthioError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return stopped.status if isinstance(stopped, Stopped) else 130
    except BrokenPipeError:
        # The reader closed the pipe, as in `make list-datasets | head -1`. Without the redirection, Python would flush
        # into the closed pipe again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
