"""Listing of recordings and captions: audio files of a folder or prefix, tar shards, caption files fetched from S3."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path

from common.audio.walk import HARMLESS, Found, as_audio, walk, walk_audio
from common.datasets.names import is_folder
from common.errors import DataError
from common.storage import ObjectStore, open_store, split_uri
from common.storage.items import ItemStore
from components.prepare_corpus.captions import formats
from components.prepare_corpus.index import order


def audio_files(root: str) -> Iterator[Found]:
    """Audio files below a folder or prefix, in any order, and what is lost there, with the reason.

    Raises DataError: the folder does not exist or cannot be read.
    """
    store = open_store(root)
    local = store.local_path("")
    if local is not None and not is_folder(local):
        raise DataError(f"audio_dir {local} is no folder; name the root of the audio files")
    walked = (as_audio(Found(name)) for name in store.list()) if local is None else walk_audio(local)
    for found in walked:
        if found.source == "." and found.reason == "unreadable_folder":
            raise DataError(f"audio_dir {local}: {found.detail}")
        if found.reason not in HARMLESS:
            yield found


def tar_shards(root: str, seed: int) -> tuple[str, ...]:
    """Addresses of the tar shards, shuffled. Raises DataError: there are fewer than two, or one cannot be read."""
    if root.endswith(".txt"):
        store, name = split_uri(root)
        lines = open_store(store).read_bytes(name).decode("utf-8-sig").splitlines()
        found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    else:
        opened = open_store(root)
        found = [_address(opened, name) for name in _tar_names(opened)]
    if len(set(found)) < 2:
        raise DataError(
            f"audio_dir {root} has {len(set(found))} tar shards; at least two are needed, so that one can be held out: "
            "split the archive, or unpack it and set prepare_corpus.source to `folder`"
        )
    return tuple(sorted(sorted(set(found)), key=lambda uri: order(seed, posixpath.basename(uri))))


def _tar_names(store: ObjectStore) -> Iterator[str]:
    local = store.local_path("")
    for found in map(Found, store.list()) if local is None else walk(local):
        named = found.source.endswith((".tar", ".tar.gz", ".tgz"))
        if found.reason == "unreadable_folder" or (named and found.reason not in ("", *HARMLESS)):
            raise DataError(f"audio_dir {store.uri}: {found.source}: {found.reason} ({found.detail})")
        if named and not found.reason:
            yield found.source


def _address(store: ObjectStore, name: str) -> str:
    path = store.local_path(name)
    # A name may contain characters with a meaning in addresses, such as `#` and `%`.
    return f"{store.uri}/{name}" if path is None else path.as_uri()


def local_captions(file: str, items: ItemStore) -> Path:
    """Local path of the caption file; the ontology's files are fetched beside it if there are any."""
    store, name = split_uri(file)
    opened = open_store(store)
    local = opened.local_path(name)
    if local is not None:
        return local
    folder = items.scratch_dir(captions_file=file)
    prefix = name.rpartition("/")[0]
    for other in {name for each in formats().values() for name in each.beside}:
        key = f"{prefix}/{other}".lstrip("/")
        if opened.size(key) is not None:
            opened.download(key, folder / other)
    target = folder / posixpath.basename(name)
    opened.download(name, target)
    return target
