"""Keys of the machine that builds the images are in no layer of any."""

from __future__ import annotations

import gzip
import re
import secrets
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from components.catalogue import STAGES
from components.catalogue import local_image as image
from tests.containers.conftest import Build

ROOT = Path(__file__).resolve().parents[2]
CANARY = f"sk-{secrets.token_hex(16)}"
KNOWN = "pip install, with the pins of requirements.txt"
"""Of docker/install-pinned, which every image holds: what shows that the search sees a layer's content."""
PLANTED = (".env", "pip.conf", "manifests/secrets/synthio-s3.yaml", "runs/log.txt", "common/.env", "common/.netrc")
BLOCK = 4 * 2**20


@pytest.fixture()
def context(tmp_path: Path) -> Path:
    """The project with keys in the places where people leave them."""
    left_out = shutil.ignore_patterns(".*", "runs", "build", "__pycache__")
    folder = shutil.copytree(ROOT, tmp_path / "project", ignore=left_out)
    shutil.copyfile(ROOT / ".dockerignore", folder / ".dockerignore")
    for name in PLANTED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"key: {CANARY}\n", encoding="utf-8")
    return folder


def saved(engine: Any, names: list[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """The layers and settings of images, as the engine writes them out: each file's name and content."""
    answer = engine.api.get(
        f"{engine.api.base_url}/v{engine.api.api_version}/images/get", params={"names": names}, stream=True
    )
    answer.raise_for_status()
    with tarfile.open(fileobj=answer.raw, mode="r|", bufsize=BLOCK) as archive:
        for member in archive:
            if member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                yield member.name, content


def holds(content: IO[bytes], needles: list[bytes]) -> set[bytes]:
    """Which of `needles` are in a file, also where it is compressed."""
    found: set[bytes] = set()
    head = content.read(BLOCK)
    if head.startswith(b"\x1f\x8b"):
        content = gzip.GzipFile(fileobj=_Joined(head, content))
        head = content.read(BLOCK)
    kept = max(map(len, needles)) - 1
    block = head
    while block:
        found |= {needle for needle in needles if needle in block}
        more = content.read(BLOCK)
        block = block[-kept:] + more if more else b""
    return found


class _Joined:
    """Bytes already read, and the rest of their file."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._rest.read(size)
        taken, self._head = self._head[:size], self._head[size:]
        return taken


def pip_settings() -> str:
    """pip's settings on this machine and, among them, a key: as private indexes want one."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found = re.findall(r"^global\.([\w-]+)='(.*)'$", listed.stdout, flags=re.MULTILINE)
    rows = [f"{name} = {value}" for name, value in found if name != "cert"]
    return "\n".join(["[global]", *rows, "[private]", f"key = {CANARY}", ""])


def test_the_builders_keys_are_in_no_layer_of_any_image(engine: Any, build: Build, context: Path) -> None:
    """The base is built anew, with a key in pip's settings; the image of the tests copies all that it may."""
    secret = context.parent / "pip.conf"
    secret.write_text(pip_settings(), encoding="utf-8")
    keys = dict.fromkeys(("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "SYNTHIO_LLM_API_KEY", "KFP_TOKEN"), CANARY)
    settings = ("--no-cache", "--secret", f"id=pip_conf,src={secret}")
    names = [
        build("base", "base", "base-anew", *settings, context=str(context), **keys),
        build("test", "base", "test-on-base", context=str(context), **keys),
    ]
    seen: set[bytes] = set()
    for name, content in saved(engine, [*{image(stage) for stage in STAGES}, *names]):
        found = holds(content, [CANARY.encode(), KNOWN.encode()])
        assert CANARY.encode() not in found, name
        seen |= found
    assert seen == {KNOWN.encode()}
