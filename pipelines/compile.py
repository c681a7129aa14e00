"""Compile the pipeline to `build/synthio.yaml`; the same bytes every time."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from kfp import compiler


def compile_pipeline(target: Path) -> Path:
    """Write the compiled DAG to `target` (atomically) and return it."""
    from pipelines.synthio import synthio

    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp.yaml")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiler.Compiler().compile(synthio, str(temporary))
    temporary.replace(target)
    return target


if __name__ == "__main__":
    print(compile_pipeline(Path(sys.argv[1] if len(sys.argv) > 1 else "build/synthio.yaml")))
