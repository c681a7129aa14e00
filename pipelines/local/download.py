"""HTTP download of one file: resumable, retried, and kept only if size and hashes match."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

from common.errors import DataError, StorageError
from common.log import Progress, event, get_logger

log = get_logger("download")

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Transient HTTP statuses, which are retried."""


@dataclass(frozen=True)
class Patience:
    """Limits of retries, waits and disk space.

    Attributes:
        tries: consecutive tries without a new byte before giving up.
        stall_s: timeout without a received byte.
        longest_wait_s: longest wait between two tries; the first waits are shorter.
        spare_bytes: disk space that must stay free.
    """

    tries: int = 5
    connect_s: float = 15.0
    stall_s: float = 30.0
    longest_wait_s: float = 30.0
    spare_bytes: int = 2**28


@dataclass(frozen=True)
class Expected:
    """Expected size and hashes of a file; None = unknown."""

    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None

    @property
    def known(self) -> bool:
        """Whether a hash is known, so that the content can be checked."""
        return bool(self.md5 or self.sha256)


class _CutShort(Exception):
    """The transfer broke off in a way that another try may fix."""


_MENDED_BY_TRYING = (httpx.TransportError, _CutShort)


def download(url: str, target: Path, expected: Expected, patience: Patience | None = None) -> str:
    """Download `url` to `target`, which appears complete and verified or not at all; a matching file is kept.

    Partial data is kept in `{target}.part`. A later call, also from another process, resumes with `Range`; it restarts
    when the server's file has changed or the server sends the whole file.

    Raises:
        DataError: the server has no such file, or a different one.
        StorageError: the server does not answer, or the disk is full; partial data is kept.

    Returns SHA-256 (hex) of the file.
    """
    patience = patience or Patience()
    if target.is_file() and (found := _problem(target, expected)) is None:
        return _digest(target, "sha256")
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        resumed = _transfer(url, part, expected, patience)
        found = _problem(part, expected)
        if found is not None and resumed:
            # The partial data may belong to another version of the file.
            _forget(part)
            _transfer(url, part, expected, patience)
            found = _problem(part, expected)
        if found is not None:
            _forget(part)
            raise DataError(
                f"{url} is not the file that was expected: {found}; nothing was kept. Try again later; if it stays, "
                "the publisher has changed the file"
            )
        digest = _digest(part, "sha256")
        part.replace(target)
        _forget(part)
        return digest
    except OSError as error:
        raise StorageError(
            f"cannot write {target}: {error.strerror or error}; free some space and run again: it goes on"
        ) from error


def remote_size(url: str, patience: Patience | None = None) -> int | None:
    """Size in bytes of the file at `url`, as its server states it; None = it states none, or does not answer."""
    patience = patience or Patience()
    timeout = httpx.Timeout(patience.stall_s, connect=patience.connect_s)
    try:
        answer = httpx.head(
            url, headers={"Accept-Encoding": "identity"}, timeout=timeout, follow_redirects=True
        ).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    return _total(answer, 0) or None


def _transfer(url: str, part: Path, expected: Expected, patience: Patience) -> bool:
    """Download `part` to its full length; return whether bytes of an earlier call were used."""
    had = _size(part)
    best, idle = had, 0

    def give_up(state: RetryCallState) -> bool:
        nonlocal best, idle
        size = _size(part)
        best, idle = (size, 0) if size > best else (best, idle + 1)
        return idle >= patience.tries

    retrying = Retrying(
        stop=give_up,
        wait=wait_exponential_jitter(0.5, patience.longest_wait_s, jitter=min(0.5, patience.longest_wait_s)),
        retry=retry_if_exception_type(_MENDED_BY_TRYING),
        before_sleep=lambda state: _tell(url, part, state),
        reraise=True,
    )
    timeout = httpx.Timeout(patience.stall_s, connect=patience.connect_s)
    with httpx.Client(timeout=timeout, follow_redirects=True, max_redirects=5) as client:
        try:
            retrying(_attempt, client, url, part, expected, patience)
        except _MENDED_BY_TRYING as error:
            raise StorageError(
                f"cannot fetch {url}: {type(error).__name__.lstrip('_')}: {error} ({patience.tries} tries without a "
                f"new byte); {_size(part)} bytes are kept in {part}. Check the network and run the same command again: "
                "it goes on from there"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DataError(f"cannot fetch {url}: {error}; correct the address, or fetch the file by hand") from error
    return had > 0


def _attempt(client: httpx.Client, url: str, part: Path, expected: Expected, patience: Patience) -> None:
    offset = _size(part)
    known = _read_state(part)
    if offset and known.get("url") != url:
        _forget(part)
        offset, known = 0, {}
    if expected.bytes is not None and offset == expected.bytes:
        return
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if known.get("validator"):
            headers["If-Range"] = known["validator"]
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == 416:
            total = _total(response, 0)
            if offset and offset == total:
                return
            _forget(part)
            raise _CutShort("the server has fewer bytes than came before; begun anew")
        _check_answer(url, response)
        start = _start(response, offset)
        if start is None:
            _forget(part)
            raise _CutShort("the server sent another part than was asked for; begun anew")
        total = _total(response, start)
        _check_size(url, total, expected, part)
        _check_room(part, (total or expected.bytes or 0) - start, patience)
        _write_state(part, url, response)
        _receive(response, part, start, total, expected)
    if total is not None and _size(part) < total:
        raise _CutShort(f"{_size(part)} of {total} bytes came")


def _receive(response: httpx.Response, part: Path, start: int, total: int | None, expected: Expected) -> None:
    most = total if total is not None else expected.bytes
    with part.open("r+b" if part.exists() else "wb") as file:
        file.truncate(start)
        file.seek(start)
        progress = Progress(log, part.stem, most, done=start) if most else None
        # No chunk size: it would hold back the last incomplete chunk, and lose it when the connection breaks.
        for chunk in response.iter_raw():
            if most is not None and file.tell() + len(chunk) > most:
                _forget(part)
                raise DataError(f"{response.url} sends more than the {most} bytes expected; nothing was kept")
            file.write(chunk)
            if progress is not None:
                progress.advance(len(chunk))


def _check_answer(url: str, response: httpx.Response) -> None:
    if urlsplit(url).scheme == "https" and any(r.url.scheme != "https" for r in (*response.history, response)):
        raise DataError(f"{url} leads to {response.url}, which is not encrypted; fetch the file by hand")
    status = response.status_code
    if status in _PASSING:
        raise _CutShort(f"the server answers {status} {response.reason_phrase}")
    if status in (401, 403):
        raise DataError(f"{url}: the server answers {status}: it asks for a login or refuses; fetch the file by hand")
    if status not in (200, 206):
        raise DataError(f"{url}: the server answers {status} {response.reason_phrase}; the file may have moved")


def _start(response: httpx.Response, offset: int) -> int | None:
    """Offset of the first byte of the response; None = not the requested one."""
    if response.status_code == 200:
        return 0
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return offset if match is not None and match[1] is not None and int(match[1]) == offset else None


def _total(response: httpx.Response, start: int) -> int | None:
    """Length of the whole file; None where the server does not state it."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is not None and match[2] != "*":
        return int(match[2])
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdecimal() else None


def _check_size(url: str, total: int | None, expected: Expected, part: Path) -> None:
    if total is not None and expected.bytes is not None and total != expected.bytes:
        _forget(part)
        raise DataError(
            f"{url} has {total} bytes; expected {expected.bytes}: it is another file. Nothing was kept; if it stays, "
            "the publisher has changed the file"
        )


def _check_room(part: Path, needed: int, patience: Patience) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < needed + patience.spare_bytes:
        raise StorageError(
            f"{part.parent} has {free} bytes free; {needed} more are needed for {part.stem}, and "
            f"{patience.spare_bytes} to spare. Free some space, or name another folder with SYNTHIO_DATA"
        )


def _problem(path: Path, expected: Expected) -> str | None:
    """Difference between a file and the expectation, in words; None = it matches."""
    size = path.stat().st_size
    if expected.bytes is not None and size != expected.bytes:
        return f"it has {size} bytes, expected {expected.bytes}"
    for kind, wanted in (("sha256", expected.sha256), ("md5", expected.md5)):
        if wanted and (found := _digest(path, kind)) != wanted:
            return f"its {kind} is {found}, expected {wanted}"
    return None


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _state_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_state(part: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        state = json.loads(_state_path(part).read_text(encoding="utf-8"))
        if isinstance(state, dict):
            return state
    return {}


def _write_state(part: Path, url: str, response: httpx.Response) -> None:
    tag = response.headers.get("ETag", "")
    # A weak tag does not guarantee equal bytes, so it cannot protect a resumed transfer (RFC 9110, section 13.1.5).
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
    text = json.dumps({"url": url, "validator": validator})
    temporary = _state_path(part).with_suffix(".new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, _state_path(part))


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def _tell(url: str, part: Path, state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    event(log, "again", url=url, have=_size(part), error=str(error), wait_s=round(state.upcoming_sleep, 1))
