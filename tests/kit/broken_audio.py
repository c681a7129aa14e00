"""Audio files as streams, recorders that lost power, cutters and joiners leave them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import soundfile

from common.audio.mpeg import _frame

RATE = 16000
UNKNOWN_SIZES = (0x7FFFF000, 0x7FFF0000, 0x80000000, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFF00, 0xFFFF0000)


def encoded(x: np.ndarray, container: str, encoding: str | None = None, rate: int = RATE, **options: object) -> bytes:
    """`x` `(T,)` or `(T, C)` as a file's bytes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, x, rate, format=container, subtype=encoding, **options)
    return buffer.getvalue()


def patched(data: bytes, place: int, form: str, *values: int) -> bytes:
    """`data` with numbers written over it."""
    new = struct.pack(form, *values)
    return data[:place] + new + data[place + len(new) :]


def without_first_frame(mp3: bytes) -> bytes:
    """An MP3 without the Xing or Info frame, which states the number of frames."""
    first = _frame(mp3[:4])
    assert first is not None
    return mp3[first.size :]


def flac_with_total(data: bytes, total: int) -> bytes:
    """A FLAC whose header states `total` samples; 0 = unknown."""
    return data[:21] + bytes([data[21] & 0xF0 | total >> 32]) + struct.pack(">I", total & 0xFFFFFFFF) + data[26:]


def unmarked_ogg(data: bytes) -> bytes:
    """An Ogg file whose last page is whole, but not marked as the last."""
    place = data.rfind(b"OggS")
    page = bytearray(data[place:])
    page[5] &= ~4
    page[22:26] = bytes(4)
    checksum = 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ 0x04C11DB7) & 0xFFFFFFFF if checksum & 0x80000000 else checksum << 1
    page[22:26] = struct.pack("<I", checksum)
    return data[:place] + bytes(page)


def _at(name: bytes, behind: int, form: str) -> Callable[[bytes, int], bytes]:
    return lambda data, value: patched(data, data.find(name) + behind, form, value)


SIZE_FIELDS: dict[str, tuple[tuple[str, str], Callable[[bytes, int], bytes], int]] = {
    "wav": (("WAV", "PCM_16"), _at(b"data", 4, "<I"), 32),
    "wav, big-endian": (("WAV", "PCM_16"), _at(b"data", 4, ">I"), 32),
    "wavex": (("WAVEX", "PCM_24"), _at(b"data", 4, "<I"), 32),
    "rf64": (("RF64", "PCM_16"), _at(b"ds64", 16, "<Q"), 64),
    "aiff": (("AIFF", "PCM_16"), _at(b"SSND", 4, ">I"), 32),
    "aifc": (("AIFF", "FLOAT"), _at(b"SSND", 4, ">I"), 32),
    "au": (("AU", "PCM_16"), lambda data, value: patched(data, 8, ">I", value), 32),
    "w64": (("W64", "PCM_16"), _at(b"data\xf3\xac", 16, "<Q"), 64),
    "caf": (("CAF", "PCM_16"), _at(b"data", 4, ">Q"), 64),
}
"""Containers with a size in front of the samples: format, writer of that size, and its width in bits."""


def container(name: str, x: np.ndarray) -> bytes:
    """`x` in one of `SIZE_FIELDS`."""
    (form, encoding), _, _ = SIZE_FIELDS[name]
    buffer = io.BytesIO()
    endian = "BIG" if "big" in name else None
    soundfile.write(buffer, x, RATE, format=form, subtype=encoding, endian=endian)
    return buffer.getvalue()
