import shutil
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl, local
from kfp.dsl import Artifact, Input, Output

from pipelines.local.observe import Observer


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def make(made: Output[Artifact]) -> None:
    from pathlib import Path

    from common.storage.artifacts import write_sums

    Path(made.path).mkdir(parents=True)
    (Path(made.path) / "weights").write_text("right")
    write_sums(Path(made.path))


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def read(made: Input[Artifact], turn: int) -> None:
    from pathlib import Path

    from common.storage.artifacts import verify_artifact

    verify_artifact("read", "made", Path(made.path))


@dsl.pipeline(name="two")
def two(turn: int = 0) -> None:
    read(made=make().outputs["made"], turn=turn)


def test_the_command_in_the_message_makes_the_artifact_anew(
    tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))

    def once(turn: int) -> Observer:
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(tmp_path / "kfp"),
            enable_caching=True,
            cache_root=str(tmp_path / "cache"),
            raise_on_error=False,
        )
        observer = Observer()
        with observer.watching():
            two(turn=turn)
        return observer

    folder = Path(once(0).artifacts["make"]["made"])
    (folder / "weights").write_text("wrong")
    again = once(1)
    assert [(row["cached"], row["state"]) for row in again.stages] == [(True, "succeeded"), (False, "failed")]
    said = "".join(capfd.readouterr())
    assert f"rm -rf '{folder}'" in said
    shutil.rmtree(folder)
    assert [(row["cached"], row["state"]) for row in once(1).stages] == [(False, "succeeded")] * 2
