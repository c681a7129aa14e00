"""The item store: every finished item of a stage, stored under a hash of its inputs.

A restarted stage finds its finished items; a run with one changed method reuses all others. An item is a folder and
is published atomically: by a rename on a file system, as one tar object on S3. For S3 the stage keeps an unpacked copy
on its local disk. A list of its files beside it tells whether they are still there in full.
"""

import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.errors import StorageError
from common.log import event, get_logger
from common.storage import DamagedError, ObjectStore, cache_root, open_store, publish_dir, store_uri, write_bytes
from common.storage.checkpoints import Checkpoints
from common.storage.hashing import hash_json

PACKED, LISTED = ".tar", ".list"
FORMAT_KEY = "FORMAT"
FORMAT = "synthio store 1"
"""Version of the on-disk layout. Bump only when the layout changes; code changes are covered by `code_version`."""
log = get_logger("items")


class ItemStore:
    """Items of one stage.

    Args:
        code_version: part of every key.
        root: the store, a folder or a URI; default: `SYNTHIO_STORE`.
        scope: part of the store, as in the plan of the stage; empty = the whole.
    """

    def __init__(self, stage: str, code_version: str, root: str | Path | None = None, scope: str = "") -> None:
        whole = open_store(root or store_uri())
        self._root = whole.child(scope) if scope else whole
        self._objects = self._root.child(stage)
        local = self._objects.local_path("")
        self._shared = local is None
        self._folder = local or cache_root() / hash_json(self._objects.uri)[:12] / stage
        self._code_version, self._format_checked = code_version, False

    def path(self, **key: Any) -> Path:
        """Local folder of the item with this `key` (JSON values: input hashes, settings, seed), existing or not."""
        return self._folder / self._name(key)

    def has(self, **key: Any) -> bool:
        """Whether the item is finished; if so, `path` exists too (fetched from S3 when needed)."""
        final = self.path(**key)
        return _is_whole(final) or (self._shared and self._fetch(self._name(key) + PACKED, final))

    def get_or_make(self, make: Callable[[Path], None], **key: Any) -> Path:
        """Folder of the item; a missing item is made by `make(folder)`.

        Raises StorageError: the store has the layout of another version, or cannot be written.
        """
        self._check_format()
        final = self.path(**key)
        if not self.has(**key):
            with publish_dir(final) as folder:
                make(folder)
                # What another run stored meanwhile stays, and is taken here too: others may have read it.
                if self._shared and not self._fetch(self._name(key) + PACKED, final):
                    self._store(folder, self._name(key) + PACKED)
            write_bytes(final.with_name(final.name + LISTED), _listed(final))
        return final

    def checkpoints(self, **key: Any) -> Checkpoints:
        """Checkpoints of unfinished training for the item of `key`."""
        return Checkpoints(self._objects.child(f"work/{self.path(**key).name}"))

    def objects(self) -> ObjectStore:
        """Object store of the stage, for objects that are streamed and never copied whole."""
        return self._objects

    def scratch_dir(self, **key: Any) -> Path:
        """Local folder for unfinished work on the item of `key`; created when absent, not shared between machines."""
        folder = self._folder / "scratch" / self.path(**key).name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def clear_unfinished(self, **key: Any) -> None:
        """Remove checkpoints and scratch of the item of `key`, once it is finished."""
        self.checkpoints(**key).clear()
        shutil.rmtree(self._folder / "scratch" / self.path(**key).name, ignore_errors=True)

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
            # Links are replaced by their targets; an item holds regular files only.
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
                # `download` checks the hash before anything is unpacked.
                self._objects.download(name, packed := Path(temporary) / "packed")
                with publish_dir(final) as folder, tarfile.open(packed, "r:") as archive:
                    archive.extractall(folder, filter=_plain)
        except (DamagedError, tarfile.TarError) as error:
            event(log, "item_damaged", uri=f"{self._objects.uri}/{name}", reason=error, then="it is made again")
            return False
        return True


def _is_whole(final: Path) -> bool:
    """Whether an item is there; one whose files are gone or cut, as after a power failure, is removed."""
    listed = final.with_name(final.name + LISTED)
    if not final.is_dir():
        # Of an item that was removed by hand; it must not judge the one that is made next.
        listed.unlink(missing_ok=True)
        return False
    if not listed.is_file() or listed.read_bytes() == _listed(final):
        return True
    event(log, "item_damaged", uri=final, reason="its files are not those that were stored", then="it is made again")
    listed.unlink(missing_ok=True)
    shutil.rmtree(final)
    return False


def _listed(final: Path) -> bytes:
    """Names and sizes of an item's files."""
    files = sorted(path for path in final.rglob("*") if path.is_file())
    return "".join(f"{path.stat().st_size} {path.relative_to(final)!s}\n" for path in files).encode(errors="replace")


def _nameless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Strip owner and time; equal content must give equal bytes."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def _plain(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    if member.name.startswith("/") or not (member.isreg() or member.isdir()):
        raise tarfile.TarError(f"member {member.name!r:.80} is no plain file of its own folder")
    return tarfile.data_filter(member, folder).replace(mtime=time.time(), deep=False)
