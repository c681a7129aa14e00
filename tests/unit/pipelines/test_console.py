from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.local.console import Console


def test_the_log_has_everything_and_the_terminal_the_stages_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(tmp_path / "log.txt")
    console.write("noise of kfp\n12:00:00 INFO synthio.align_t2a event=stage_")
    console.write("done wall_s=3.5 model_s=2.25\n")
    console.close()
    assert (tmp_path / "log.txt").read_text().startswith("noise of kfp\n")
    assert capsys.readouterr().out == "  align_t2a: stage_done wall_s=3.5 model_s=2.25\n"
    assert console.model_s == 2.25


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_wants_no_more_is_no_error(options: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "pipelines", "list-datasets", *options]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
