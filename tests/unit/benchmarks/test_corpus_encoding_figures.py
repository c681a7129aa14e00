from __future__ import annotations

import subprocess
import sys

from tests.benchmarks.corpus_encoding import peak_bytes

HELD_BYTES = 300 * 2**20


def test_the_memory_of_a_measured_process_is_its_own_and_not_that_of_the_one_that_started_it() -> None:
    held = bytearray(b"x") * HELD_BYTES
    code = "from tests.benchmarks.corpus_encoding import peak_bytes; print(peak_bytes())"
    child = float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert peak_bytes() > len(held) > 2 * child
