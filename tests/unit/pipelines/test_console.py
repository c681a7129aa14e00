from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_wants_no_more_is_no_error(options: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "pipelines", "list-datasets", *options]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
