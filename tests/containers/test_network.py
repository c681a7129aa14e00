"""A stage in a network that holds its caption writer and its store, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.caption_clips.run import run as caption_clips
from components.catalogue import local_image as image
from pipelines.local.observe import make_writable
from tests.containers.conftest import Build, limits, run
from tests.kit.gold import REPLICATES, caption_gold
from tests.kit.s3_server import BUCKET

STORE = f"s3://{BUCKET}/store"
WORK = """
import json, socket, sys
from components.augment_captions.run import run
gold, captions, prompts, config = sys.argv[1:]
run(gold, captions, prompts, prompts + ".json", config=json.loads(config), code_version="v")
for elsewhere in (("192.0.2.1", 443), ("169.254.169.254", 80), ("example.com", 443)):
    try:
        socket.create_connection(elsewhere, 1.0)
    except OSError as error:
        print("REFUSED", elsewhere[0], error)
"""
LIST = f"""
from common.storage import open_store
print("KEYS", *open_store({STORE!r}).list())
"""


@pytest.fixture(scope="module")
def neighbours(engine: Any, build: Build) -> Iterator[tuple[str, dict[str, str]]]:
    """The network of both, for other containers, and the address of each in it."""
    name = build("test", "torch", "test-on-torch")
    container = engine.containers.create(name, ["python", "-m", "tests.containers.neighbours"], **limits())
    container.start()
    try:
        line = next(line for line in container.logs(stream=True, follow=True) if line.startswith(b"{"))
        yield f"container:{container.id}", json.loads(line)
    finally:
        container.kill()
        container.remove(force=True)


def test_a_caption_stage_reaches_its_writer_and_its_store_and_nothing_else(
    engine: Any, neighbours: tuple[str, dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, urls = neighbours
    gold, captions, prompts = caption_gold(tmp_path / "gold"), tmp_path / "captions", tmp_path / "prompts"
    settings = {"settings": {"backend": "acoustics"}, "replicates": list(REPLICATES)}
    caption_clips(str(gold), str(captions), str(tmp_path / "figures"), config=settings, code_version="v")
    make_writable([tmp_path])
    config = {
        "settings": {"writer": {"backend": "endpoint", "endpoint": {"base_url": urls["writer"], "model": "stub"}}},
        "replicates": list(REPLICATES),
        "recipes": [{"captions": "mixcap"}],
        "augmentation_factor": 2,
        "domain": "test",
    }
    environment = {
        "SYNTHIO_STORE": STORE,
        "AWS_ENDPOINT_URL_S3": urls["store"],
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    allowed = limits(**environment) | {"network_mode": network}
    here = {str(tmp_path): {"bind": str(tmp_path), "mode": "rw"}}
    command = ["python", "-c", WORK, str(gold), str(captions), str(prompts), json.dumps(config)]
    assert run(engine, image("augment_captions"), command, here, **allowed) == 0
    said = capsys.readouterr().out
    assert said.count("REFUSED") == 3
    rows = [json.loads(line) for line in (prompts / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows and {row["writer"] for row in rows} == {"endpoint:stub"}
    assert run(engine, image("augment_captions"), ["python", "-c", LIST], {}, **allowed) == 0
    keys = capsys.readouterr().out.split("KEYS")[1].split()
    assert {"augment_captions", "caption_requests"} <= {key.partition("/")[0] for key in keys}
