"""Walk of a folder that names what it does not take: the one listing of datasets, corpora and `make classify`."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

AUDIO_SUFFIXES = frozenset(
    {
        *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mpga"),
        *(".mp2", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".sph", ".nist", ".voc"),
    }
)
"""Suffixes of files taken as audio; the content decides whether they can be read."""

FOREIGN_SUFFIXES = frozenset(
    {
        *(".m4a", ".m4b", ".m4p", ".m4r", ".mp4", ".m4v", ".aac", ".adts", ".ac3", ".eac3", ".dts"),
        *(".wma", ".wmv", ".asf", ".webm", ".weba", ".mka", ".mkv", ".mov", ".avi", ".3gp", ".3ga"),
        *(".3g2", ".amr", ".awb", ".ape", ".wv", ".tta", ".tak", ".mpc", ".spx", ".gsm", ".ra"),
        *(".ram", ".rm", ".dsf", ".dff", ".qcp", ".mpg", ".mpeg", ".vox", ".alac"),
    }
)
"""Suffixes of sound and video files in formats that cannot be read."""

SYSTEM_FOLDERS = frozenset(
    {"__MACOSX", "__pycache__", "lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information"}
)
"""Folders that systems and unpackers leave behind; left out like hidden ones."""


HARMLESS = frozenset({"hidden", "other", "empty_folder"})
"""Reasons of files and folders that hold no clip."""


class Found(NamedTuple):
    """A file or folder of a walk."""

    source: str
    """Path relative to the root, in POSIX form; bytes that are no UTF-8 are written as `\\xe9`."""
    reason: str = ""
    """Code of why it is not taken; empty = it is a file to take."""
    detail: str = ""


def walk_audio(root: Path, ordered: bool = True) -> Iterator[Found]:
    """Walk the audio files below `root`, sorted by the parts of their paths unless order does not matter.

    In no order, memory does not grow with the number of files.

    Hidden files and folders are left out at every level. Links are followed, but no folder is entered twice.

    Yields each audio file, without a reason. With a reason: `unreadable_folder`, `broken_link`, `same_folder`,
    `no_file` (pipe, socket or device), `bad_name` (no Unicode text) and `foreign_format` for what is lost; `hidden`,
    `other` (no audio) and `empty_folder` for the rest, see `HARMLESS`.
    """
    return map(as_audio, walk(root, ordered))


def as_audio(found: Found) -> Found:
    """`found` with a reason if its name is not that of an audio file."""
    suffix = PurePosixPath(found.source).suffix.lower()
    if found.reason == "hidden" and (suffix not in AUDIO_SUFFIXES or PurePosixPath(found.source).name[:2] == "._"):
        return found._replace(reason="other")
    if found.reason in ("", "bad_name", "broken_link", "no_file") and suffix not in AUDIO_SUFFIXES:
        if suffix not in FOREIGN_SUFFIXES:
            # A broken link without a suffix may have led to a folder.
            return found if found.reason == "broken_link" and not suffix else Found(found.source, "other", "no audio")
        if not found.reason:
            return found._replace(reason="foreign_format", detail=foreign(suffix))
    return found


def foreign(suffix: str) -> str:
    """Sentence on a format that cannot be read, for the suffix of its files."""
    return f"{suffix.lstrip('.').upper()} cannot be read; convert it, as by `ffmpeg -i clip{suffix} clip.wav`"


def is_text(name: str) -> bool:
    """Whether `name` is Unicode text; names of another encoding, such as Latin-1, are not."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def escaped(name: str) -> str:
    """`name` as text for messages and records, with bytes that are no UTF-8 written as `\\xe9`."""
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode()


def walk(root: Path, ordered: bool = True) -> Iterator[Found]:
    """As `walk_audio`, for files of every kind: a file to take is any regular file that is not hidden."""
    entered: dict[tuple[int, int], str] = {}
    pending: list[tuple[str, os.DirEntry[str] | None]] = [("", None)]
    while pending:
        source, entry = pending.pop()
        if entry is not None and not _is_folder(entry):
            yield _file(source, entry)
            continue
        try:
            status = os.stat(root / source)
            first = entered.setdefault((status.st_dev, status.st_ino), source)
            if first != source:
                detail = f"the same folder as {escaped(first) or root}, which is listed already; remove the link"
                yield Found(escaped(source), "same_folder", detail)
                continue
            inside, files = list[os.DirEntry[str]](), 0
            with os.scandir(root / source) as entries:
                for each in entries:
                    if _is_left_out(each):
                        continue
                    if ordered or _is_folder(each):
                        inside.append(each)
                    else:
                        files += 1
                        yield _file(f"{source}/{each.name}".lstrip("/"), each)
        except OSError as error:
            detail = f"{error.strerror}; allow this user to read and enter the folder"
            yield Found(escaped(source) or ".", "unreadable_folder", detail)
            continue
        if not inside and not files:
            yield Found(escaped(source) or ".", "empty_folder", "empty")
        inside.sort(key=lambda each: each.name, reverse=True)
        pending += [(f"{source}/{each.name}".lstrip("/"), each) for each in inside]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_left_out(entry: os.DirEntry[str]) -> bool:
    return (entry.name.startswith(".") or entry.name in SYSTEM_FOLDERS) and _is_folder(entry)


def _file(source: str, entry: os.DirEntry[str]) -> Found:
    shown = escaped(source)
    if entry.name.startswith("."):
        return Found(shown, "hidden", "its name begins with a dot")
    try:
        # An entry knows the kind of an ordinary file without a further call of the system.
        regular = entry.is_file(follow_symlinks=False) or stat.S_ISREG(os.stat(entry.path).st_mode)
    except OSError as error:
        return Found(shown, "broken_link", _broken(entry, error))
    if not regular:
        return Found(shown, "no_file", "a pipe, socket or device; expected a regular file")
    if not is_text(source):
        return Found(
            shown, "bad_name", "the name is no Unicode text; rename it, as by `convmv -r -f latin1 -t utf8 --notest .`"
        )
    return Found(source)


def _broken(entry: os.DirEntry[str], error: OSError) -> str:
    try:
        target = os.readlink(entry.path)
    except OSError:
        return f"{error.strerror}; check the folder's permissions"
    remedy = "run `git annex get` there" if ".git/annex" in target else "restore the file, or remove the link"
    return f"the link leads to {escaped(target)}: {error.strerror}; {remedy}"
