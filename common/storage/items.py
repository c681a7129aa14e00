"""The item store: every finished piece of work of a stage, kept under a key of what it was made from.

A killed stage starts again and finds what it had finished; a run with one method changed finds everything else. An item
is a folder, published whole or not at all: on a file system by a rename, on S3 as one tar object, of which the stage
keeps an unpacked copy on its own disk.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from common.errors import StorageError
from common.log import event, get_logger
from common.storage import DamagedError, ObjectStore, cache_root, open_store, publish_dir, store_uri
from common.storage.checkpoints import Checkpoints
from common.storage.hashing import hash_json

PACKED = ".tar"
FORMAT_KEY = "FORMAT"
FORMAT = "synthio store 1"
"""How items are laid out in the store. Other code makes other items; only another layout needs another store."""
log = get_logger("items")


class ItemStore:
    """Items of one stage.

    Args:
        stage: the stage's name (verb_object), the folder in the store.
        code_version: hash of the stage's source; part of every key.
        root: the store, a folder or a URI; default: `SYNTHIO_STORE`.
    """

    def __init__(self, stage: str, code_version: str, root: str | Path | None = None) -> None:
        self._root: ObjectStore = open_store(root or store_uri())
        self._objects: ObjectStore = self._root.child(stage)
        self._format_checked = False
        local = self._objects.local_path("")
        self._shared = local is None
        self._folder = cache_root() / hash_json(self._objects.uri)[:12] / stage if local is None else local
        self._code_version = code_version

    def path(self, **key: Any) -> Path:
        """Where the item made from `key` (JSON values: input hashes, settings, seed) is or will be on this machine."""
        return self._folder / self._name(key)

    def has(self, **key: Any) -> bool:
        """Whether the item is finished; then `path` is there as well."""
        final = self.path(**key)
        return final.is_dir() or (self._shared and self._fetch(self._name(key) + PACKED, final))

    def get_or_make(self, make: Callable[[Path], None], **key: Any) -> Path:
        """The item's folder; `make(folder)` fills it when it is not there yet.

        Raises:
            StorageError: the store was laid out by another version, or cannot be written.
        """
        self._check_format()
        final = self.path(**key)
        if not self.has(**key):
            with publish_dir(final) as folder:
                make(folder)
                if self._shared:
                    self._store(folder, self._name(key) + PACKED)
        return final

    def checkpoints(self, **key: Any) -> Checkpoints:
        """Where unfinished training of the item of `key` is kept."""
        return Checkpoints(self._objects.child(f"work/{PurePosixPath(self._name(key)).name}"))

    def objects(self) -> ObjectStore:
        """The stage's place in the store, for objects that are streamed and never copied whole."""
        return self._objects

    def scratch_dir(self, **key: Any) -> Path:
        """A folder of this machine for unfinished work on the item of `key`; made when absent, and not shared."""
        folder = self._folder / "scratch" / PurePosixPath(self._name(key)).name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _name(self, key: dict[str, Any]) -> str:
        digest = hash_json({"code": self._code_version, **key})
        return f"{digest[:2]}/{digest[:32]}"

    def _check_format(self) -> None:
        if self._format_checked:
            return
        if self._root.size(FORMAT_KEY) is None:
            self._root.write_bytes(FORMAT_KEY, f"{FORMAT}\n".encode())
        found = self._root.read_bytes(FORMAT_KEY).decode(errors="replace").strip()
        if found != FORMAT:
            raise StorageError(
                f"the store {self._root.uri} is a {found[:40]!r}, expected {FORMAT!r}: another version of this code "
                "laid it out. Name another store (STORE=, or SYNTHIO_STORE), or remove this one: it holds nothing that "
                "a run cannot make again"
            )
        self._format_checked = True

    def _store(self, folder: Path, name: str) -> None:
        packed = folder.with_name(folder.name + PACKED)
        try:
            # Links become what they point to: an item holds regular files only.
            with tarfile.open(packed, "w", dereference=True) as archive:
                archive.add(folder, arcname=".", filter=_nameless)
            self._objects.upload(name, packed)
        except OSError as error:
            raise StorageError(f"cannot pack {folder}: {error.strerror}; free some space and run it again") from error
        finally:
            packed.unlink(missing_ok=True)

    def _fetch(self, name: str, final: Path) -> bool:
        if self._objects.size(name) is None:
            return False
        try:
            with tempfile.TemporaryDirectory(prefix="item-") as temporary:
                # The hash is checked before anything is unpacked.
                self._objects.download(name, packed := Path(temporary) / "packed")
                with publish_dir(final) as folder, tarfile.open(packed, "r:") as archive:
                    for member in archive:
                        _unpack(archive, member, folder)
        except (DamagedError, tarfile.TarError) as error:
            event(log, "item_damaged", uri=f"{self._objects.uri}/{name}", reason=error, then="it is made again")
            return False
        return True


def _nameless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without owner and time: the same content gives the same bytes."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    parts = PurePosixPath(member.name).parts
    if ".." in parts or member.name.startswith("/") or not (member.isreg() or member.isdir()):
        raise tarfile.TarError(f"member {member.name!r:.80} is no plain file of its own folder")
    target = folder / member.name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source = archive.extractfile(member)
    with target.open("xb") as file:
        if source is not None:
            shutil.copyfileobj(source, file, 2**20)
