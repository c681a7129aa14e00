"""HTTP download of one file: resumable, retried, and kept only if size and hashes match."""

import contextlib
import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential_jitter

from common.config.dataset import Archive
from common.errors import DataError, StorageError
from common.log import Progress, event, get_logger
from common.storage import write_json

log = get_logger("download")

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Transient HTTP statuses, which are retried."""


@dataclass(frozen=True)
class Patience:
    """Limits of retries, waits and disk space."""

    tries: int = 5
    """Consecutive tries without a new byte before giving up."""
    connect_s: float = 15.0
    stall_s: float = 30.0
    """Timeout without a received byte."""
    longest_wait_s: float = 30.0
    """Longest wait between two tries; the first waits are shorter."""
    spare_bytes: int = 2**28
    """Disk space that must stay free."""

    @property
    def timeout(self) -> httpx.Timeout:
        """Timeouts of a request."""
        return httpx.Timeout(self.stall_s, connect=self.connect_s)


PATIENCE = Patience()


class _CutShort(Exception):
    """The transfer broke off in a way that another try may fix."""


_MENDED_BY_TRYING = (httpx.TransportError, _CutShort)


def download(archive: Archive, target: Path, patience: Patience = PATIENCE) -> str:
    """Download a file to `target`, which appears complete and verified or not at all; a matching file is kept.

    Partial data is kept in `{target}.part`. A later call, also from another process, resumes with `Range`; it restarts
    when the server's file has changed or the server sends the whole file.

    Raises:
        DataError: the server has no such file, or a different one.
        StorageError: the server does not answer, or the disk is full; partial data is kept.

    Returns SHA-256 (hex) of the file.
    """
    if target.is_file() and _problem(target, archive) is None:
        return _digest(target, "sha256")
    part = _Part(archive, target.with_name(f"{target.name}.part"), patience)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        resumed = part.size > 0
        part.transfer()
        found = _problem(part.path, archive)
        if found is not None and resumed:
            # The partial data may belong to another version of the file.
            part.forget()
            part.transfer()
            found = _problem(part.path, archive)
        if found is not None:
            part.forget()
            raise DataError(
                f"{part.url} is not the file that was expected: {found}; nothing was kept. Try again later; if it "
                "stays, the publisher has changed the file"
            )
        digest = _digest(part.path, "sha256")
        part.path.replace(target)
        part.forget()
        return digest
    except OSError as error:
        raise StorageError(
            f"cannot write {target}: {error.strerror or error}; free some space and run again: it goes on"
        ) from error


def remote_size(url: str, patience: Patience = PATIENCE) -> int | None:
    """Size in bytes of the file at `url`, as its server states it; None = it states none, or does not answer."""
    headers = {"Accept-Encoding": "identity"}
    try:
        answer = httpx.head(url, headers=headers, timeout=patience.timeout, follow_redirects=True).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    return _total(answer, 0) or None


@dataclass(frozen=True)
class _Part:
    """Partial data of a download, with its address and the server's tag of the version beside it."""

    archive: Archive
    path: Path
    patience: Patience

    @property
    def url(self) -> str:
        return self.archive.url

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def _state(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)

    def transfer(self) -> None:
        """Download to the full length."""
        patience, best, idle = self.patience, self.size, 0

        def give_up(state: RetryCallState) -> bool:
            nonlocal best, idle
            best, idle = (self.size, 0) if self.size > best else (best, idle + 1)
            return idle >= patience.tries

        retrying = Retrying(
            stop=give_up,
            wait=wait_exponential_jitter(0.5, patience.longest_wait_s, jitter=min(0.5, patience.longest_wait_s)),
            retry=retry_if_exception_type(_MENDED_BY_TRYING),
            before_sleep=self._tell,
            reraise=True,
        )
        with httpx.Client(timeout=patience.timeout, follow_redirects=True, max_redirects=5) as client:
            try:
                retrying(self._attempt, client)
            except _MENDED_BY_TRYING as error:
                raise StorageError(
                    f"cannot fetch {self.url}: {type(error).__name__.lstrip('_')}: {error} ({patience.tries} tries "
                    f"without a new byte); {self.size} bytes are kept in {self.path}. Check the network and run the "
                    "same command again: it goes on from there"
                ) from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                text = f"cannot fetch {self.url}: {error}; correct the address, or fetch the file by hand"
                raise DataError(text) from error

    def _tell(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        event(log, "again", url=self.url, have=self.size, error=str(error), wait_s=round(state.upcoming_sleep, 1))

    def _attempt(self, client: httpx.Client) -> None:
        offset, known = self.size, self._read_state()
        if offset and known.get("url") != self.url:
            self.forget()
            offset, known = 0, {}
        if offset == self.archive.bytes:
            return
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if known.get("validator"):
                headers["If-Range"] = known["validator"]
        with client.stream("GET", self.url, headers=headers) as response:
            if response.status_code == 416:
                if offset and offset == _total(response, 0):
                    return
                self.forget()
                raise _CutShort("the server has fewer bytes than came before; begun anew")
            self._check_answer(response)
            sent = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            start = 0 if response.status_code == 200 else offset
            if response.status_code == 206 and (sent is None or sent[1] != str(offset)):
                self.forget()
                raise _CutShort("the server sent another part than was asked for; begun anew")
            total = _total(response, start)
            self._check_size(total, start)
            self._write_state(response)
            self._receive(response, start, total)
        if total is not None and self.size < total:
            raise _CutShort(f"{self.size} of {total} bytes came")

    def _check_answer(self, response: httpx.Response) -> None:
        url, status = self.url, response.status_code
        if urlsplit(url).scheme == "https" and any(r.url.scheme != "https" for r in (*response.history, response)):
            raise DataError(f"{url} leads to {response.url}, which is not encrypted; fetch the file by hand")
        if status in _PASSING:
            raise _CutShort(f"the server answers {status} {response.reason_phrase}")
        if status in (401, 403):
            raise DataError(
                f"{url}: the server answers {status}: it asks for a login or refuses; fetch the file by hand"
            )
        if status not in (200, 206):
            raise DataError(f"{url}: the server answers {status} {response.reason_phrase}; the file may have moved")

    def _check_size(self, total: int | None, start: int) -> None:
        if None not in (total, self.archive.bytes) and total != self.archive.bytes:
            self.forget()
            raise DataError(
                f"{self.url} has {total} bytes; expected {self.archive.bytes}: it is another file. Nothing was kept; "
                "if it stays, the publisher has changed the file"
            )
        needed, spare = (total or self.archive.bytes or 0) - start, self.patience.spare_bytes
        free = shutil.disk_usage(self.path.parent).free
        if free < needed + spare:
            raise StorageError(
                f"{self.path.parent} has {free} bytes free; {needed} more are needed for {self.path.stem}, and {spare} "
                "to spare. Free some space, or name another folder with SYNTHIO_DATA"
            )

    def _receive(self, response: httpx.Response, start: int, total: int | None) -> None:
        most = total if total is not None else self.archive.bytes
        with self.path.open("r+b" if self.path.exists() else "wb") as file:
            file.truncate(start)
            file.seek(start)
            progress = Progress(log, self.path.stem, most, done=start) if most else None
            # No chunk size: it would hold back the last incomplete chunk, and lose it when the connection breaks.
            for chunk in response.iter_raw():
                if most is not None and file.tell() + len(chunk) > most:
                    self.forget()
                    raise DataError(f"{response.url} sends more than the {most} bytes expected; nothing was kept")
                file.write(chunk)
                if progress is not None:
                    progress.advance(len(chunk))

    def _read_state(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            state = json.loads(self._state.read_text(encoding="utf-8"))
            if isinstance(state, dict):
                return state
        return {}

    def _write_state(self, response: httpx.Response) -> None:
        tag = response.headers.get("ETag", "")
        # A weak tag does not guarantee equal bytes, so it cannot protect a resumed transfer (RFC 9110, 13.1.5).
        validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
        write_json(self._state, {"url": self.url, "validator": validator})


def _total(response: httpx.Response, start: int) -> int | None:
    """Length of the whole file; None where the server does not state it."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is not None and match[2] != "*":
        return int(match[2])
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdecimal() else None


def _problem(path: Path, expected: Archive) -> str | None:
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
