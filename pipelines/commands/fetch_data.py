"""Download, verify and unpack a published dataset (`make fetch-data DATASET=…`)."""

import argparse
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from common.archives import ArchiveLimits, unpack_into
from common.audio.walk import AUDIO_SUFFIXES
from common.config.dataset import Archive, DatasetSpec
from common.datasets.listing import is_here, list_located, root_of, where_to_get
from common.datasets.registry import resolve_dataset
from common.errors import ConfigError, DataError, StorageError
from common.log import event, get_logger
from common.storage import publish_dir, write_json
from common.storage.local import locked
from pipelines.local.download import PATIENCE, Patience, download, remote_size

OPTIONS = {"--dataset": ...}

log = get_logger("fetch_data")

RECORD = "FETCHED.json"
"""File in the dataset's folder that lists the downloaded archives."""
SUFFIXES = (*sorted(AUDIO_SUFFIXES), ".mp4", ".csv", ".tsv", ".txt", ".json", ".jsonl", ".yaml", ".yml", ".md", ".mf")
"""Suffixes of the files to unpack; published archives also contain programs, pictures and desktop files."""
LIMITS = ArchiveLimits(members=1_000_000, member_bytes=2**31, total_bytes=2**38)
"""Limits of an archive; NSynth has 289 thousand clips in one archive and half a gigabyte of metadata in one file."""

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ ()-]{0,99}")


@dataclass(frozen=True)
class Fetched:
    """A dataset on this machine; `new` where this call downloaded it."""

    root: Path
    clips: int
    new: bool


def downloadable(spec: DatasetSpec) -> bool:
    """Whether the dataset may be downloaded without asking anybody."""
    return spec.access == "download" and bool(spec.archives)


def fetch(spec: DatasetSpec, patience: Patience = PATIENCE) -> Fetched:
    """Download and unpack a dataset of native layout, unless its folder exists.

    The folder appears complete or not at all. Archives stay beside it until all of them are complete and verified. The
    unpacked files are published only if the dataset's reader accepts their layout.

    Raises:
        ConfigError: the dataset cannot be downloaded freely; the message says where to get it and where to put it.
        DataError: an archive is not the expected one or breaks a limit, or the layout is another one.
        StorageError: the server does not answer, or the disk is full; the same call resumes.
    """
    if not spec.native:
        raise ConfigError(f"dataset {spec.name} has nothing to download: use it as it is")
    root = root_of(spec)
    if is_here(spec):
        try:
            return Fetched(root, len(list_located(spec).rows), new=False)
        except DataError as error:
            raise DataError(f"{error}; to fetch it anew, move {root} away first") from error
    if not downloadable(spec):
        raise ConfigError(where_to_get(spec))
    waiting = root.parent / f".{root.name}.downloads"
    with locked(waiting / "lock", f"dataset {spec.name} is being fetched by another process; wait for it to end"):
        packed = _packed_bytes(spec, patience)
        _check_room(spec, waiting, packed or 0, patience.spare_bytes)
        _announce(spec, root, packed)
        files = [waiting / f"{number}-{_file_name(archive)}" for number, archive in enumerate(spec.archives)]
        hashes = []
        for archive, file in zip(spec.archives, files, strict=True):
            event(log, "fetching", url=archive.url, bytes=archive.bytes or "unknown")
            hashes.append(download(archive, file, patience))
            if not (archive.md5 or archive.sha256):
                event(log, "no_checksum_known", url=archive.url, sha256=hashes[-1])
        clips = _publish(spec, root, files, hashes)
    shutil.rmtree(waiting, ignore_errors=True)
    return Fetched(root, clips, new=True)


def _publish(spec: DatasetSpec, root: Path, files: list[Path], hashes: list[str]) -> int:
    with publish_dir(root) as temporary:
        for archive, file in zip(spec.archives, files, strict=True):
            event(log, "unpacking", file=file.name)
            _place(archive, file, temporary / archive.folder)
        used = [
            {"url": archive.url, "sha256": sha256, "bytes": file.stat().st_size}
            for archive, file, sha256 in zip(spec.archives, files, hashes, strict=True)
        ]
        write_json(temporary / RECORD, {"dataset": spec.name, "files": used})
        try:
            return len(list_located(spec.model_copy(update={"root": temporary})).rows)
        except DataError as error:
            told = str(error).replace(str(temporary), "the archive")
            raise DataError(f"what was downloaded is not dataset {spec.name}: {told}. Nothing was published") from error


def _place(archive: Archive, file: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not archive.unpack:
        target = folder / _file_name(archive)
        if target.exists():
            raise DataError(f"{archive.url}: {target.name} is in another archive of this dataset as well")
        shutil.copyfile(file, target)
        return
    try:
        unpack_into(file, folder, SUFFIXES, LIMITS, skip_others=True)
    except DataError as error:
        if not (archive.md5 or archive.sha256):
            # Without a known hash the archive itself may be damaged, so the next run must download it again.
            file.unlink()
        raise DataError(f"{archive.url}: {error}. Nothing was published") from error


def _file_name(archive: Archive) -> str:
    parts = [unquote(part) for part in urlsplit(archive.url).path.split("/") if part]
    name = next((part for part in reversed(parts) if "." in part), "archive")
    if not _FILE_NAME.fullmatch(name):
        raise ConfigError(f"{archive.url} names no usable file; expected an address that ends in a file name")
    return name


def _packed_bytes(spec: DatasetSpec, patience: Patience) -> int | None:
    """Size of all archives, known or asked for; None = a server does not tell."""
    sizes = [archive.bytes or remote_size(archive.url, patience) for archive in spec.archives]
    return None if None in sizes else sum(size or 0 for size in sizes)


def _announce(spec: DatasetSpec, root: Path, packed: int | None) -> None:
    size = "of unstated size" if packed is None else f"{packed / 2**30:.2f} GiB"
    hosts = ", ".join(sorted({urlsplit(archive.url).hostname or archive.url for archive in spec.archives}))
    print(
        f"fetching dataset {spec.name}: {size} from {hosts} to {root}; licence: {spec.licence}. "
        "Ctrl-C stops it, and the same command goes on",
        flush=True,
    )


def _check_room(spec: DatasetSpec, folder: Path, packed: int, spare: int) -> None:
    """Raise StorageError before downloading if there is no room for the archives and the same size unpacked."""
    here = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    needed, free = max(0, 2 * packed - here) + spare, shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"{folder.parent} has {free / 2**30:.1f} GiB free; dataset {spec.name} needs at least {needed / 2**30:.1f} "
            "GiB, packed and unpacked. Free some space, or name another folder with SYNTHIO_DATA"
        )


def run(options: argparse.Namespace) -> int:
    """Fetch the dataset and print its folder; exit status 0 = it is there, 2 = it is not, with what to do."""
    spec = resolve_dataset(options.dataset)
    found = fetch(spec)
    state = "fetched to" if found.new else "is there already:"
    print(f"{spec.name} {state} {found.root} ({found.clips} clips; licence: {spec.licence})")
    return 0
