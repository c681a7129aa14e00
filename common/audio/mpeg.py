"""Frames of MPEG audio: their true number, for files whose first frame states none, or a wrong one."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from common.audio.layout import Layout, Source

_KBIT_S = {
    # MPEG-1, and MPEG-2 and 2.5, layer III.
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_ZEROS = 2**20
"""Largest number of zeros in front of the first frame."""
_WINDOW = 2**20


_DECODER_DELAY = 529
"""Samples by which a decoder of layer III is late."""
_SILENT_SAMPLES = 4608
"""Length of the silent frames: a whole turn of the decoder's buffer, so that sums are rounded as without them."""


@dataclass(frozen=True)
class _Frame:
    """Header of a frame, MPEG version (3 = 1, 2 = 2, 0 = 2.5), size, and size of the side information in bytes."""

    head: bytes
    version: int
    rate_hz: int
    size: int
    side_bytes: int

    def is_like(self, other: Self | None) -> bool:
        """Whether both may belong to one stream."""
        return other is not None and (self.version, self.rate_hz) == (other.version, other.rate_hz)


def _frame(head: bytes) -> _Frame | None:
    """Frame of layer III with this header of 4 bytes."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, kbit, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kbit in (0, 15) or rate == 3:
        return None
    first = version == 3
    rate_hz = _RATES_HZ[version][rate]
    size = (144 if first else 72) * _KBIT_S[first][kbit] * 1000 // rate_hz + (head[2] >> 1 & 1)
    mono = head[3] >> 6 == 3
    side = {(True, True): 17, (True, False): 32, (False, True): 9, (False, False): 17}[first, mono]
    return _Frame(head[:4], version, rate_hz, size, side)


def mpeg_layout(source: Source) -> Layout | None:
    """Layout of a file of MPEG layer III; None for any other file.

    libsndfile estimates the length of a file without a Xing or Info header, and believes a wrong one: then the frames,
    which are counted here, are given to it behind a header that states their number. Whatever lies between the frames
    is left out, and so are zeros in front of them.
    """
    tagged = skip_tags(source, 0)
    start = tagged
    while start < min(source.size, _ZEROS) and not source.read(start, 1024).strip(b"\0"):
        start += 1024
    zeros = source.read(start, 1024)
    start = skip_tags(source, start + len(zeros) - len(zeros.lstrip(b"\0")))
    first = _frame(source.read(start, 4))
    if first is None or not first.is_like(_frame(source.read(start + first.size, 4))):
        return None
    found = list(_runs(source, start, first))
    count, runs = sum(frames for *_, frames in found), [(begin, end) for begin, end, _ in found]
    frame = source.read(start, first.size)
    place = _place_of_count(frame, first)
    if place is None:
        return _behind(source, _info_frames(first, count), runs)
    # The frame with the header is not counted.
    if count - 1 > int.from_bytes(frame[place : place + 4], "big"):
        info = frame[:place] + struct.pack(">I", count - 1) + frame[place + 4 :]
        return _behind(source, info, [(start + first.size, runs[0][1]), *runs[1:]])
    return Layout() if start == tagged else Layout(((source.piece(start),),))


def skip_tags(source: Source, place: int) -> int:
    """Place behind the ID3v2 tags at `place`."""
    while (size := _tag_bytes(source.read(place, 10))) and place < source.size:
        place += size
    return place


def _runs(source: Source, place: int, first: _Frame) -> Iterator[tuple[int, int, int]]:
    """Runs of frames without a gap: start, end, number of frames."""
    heads = (first.head[:2] + bytes([byte]) + first.head[3:] for byte in range(256))
    sizes = [made.size if (made := _frame(head)) and made.is_like(first) else 0 for head in heads]
    second = first.head[1] | 1
    found: int | None = place
    while found is not None:
        start, frames, more = found, 0, True
        place = start
        while more:
            window = source.read(place, _WINDOW)
            inside, last = 0, len(window) - 4
            while inside <= last and window[inside] == 0xFF and window[inside + 1] | 1 == second:
                size = sizes[window[inside + 2]]
                if not size or place + inside + size > source.size:
                    break
                inside += size
                frames += 1
            place += inside
            more = inside > last and place < source.size - 4
        if frames:
            yield start, place, frames
        found = _resynchronise(source, max(skip_tags(source, place), place + 1), first)


def _resynchronise(source: Source, place: int, first: _Frame) -> int | None:
    """Next place of two frames of the stream that follow each other."""
    while place < source.size:
        window = source.read(place, _WINDOW)
        sync = window.find(b"\xff")
        while sync >= 0:
            frame = _frame(source.read(place + sync, 4))
            if frame and first.is_like(frame) and first.is_like(_frame(source.read(place + sync + frame.size, 4))):
                return place + sync
            sync = window.find(b"\xff", sync + 1)
        place += _WINDOW
    return None


def _tag_bytes(head: bytes) -> int:
    """Size of an ID3v2 tag with this head; 0 if it is none."""
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & 16 else 0)


def _place_of_count(frame: bytes, first: _Frame) -> int | None:
    """Place of the number of frames in a Xing or Info header within the first frame."""
    for side in (first.side_bytes, first.side_bytes + 2):  # with a checksum behind the frame's header
        place = 4 + side
        if frame[place : place + 4] in (b"Xing", b"Info") and len(frame) >= place + 12 and frame[place + 7] & 1:
            return place + 8
    return None


def _info_frames(first: _Frame, count: int) -> bytes:
    """An Info frame and silent ones, to stand in front of `count` frames.

    A decoder that reads an Info frame leaves out its own delay, which it does not do without one. The silent frames
    make up for it, so that the samples are those that it decodes without.
    """
    samples = 1152 if first.version == 3 else 576
    silent = _SILENT_SAMPLES // samples
    delay = (_SILENT_SAMPLES - _DECODER_DELAY) << 12 | _DECODER_DELAY
    fields = b"Info" + struct.pack(">II", 1, count + silent) + b"LAME".ljust(21, b"\0") + delay.to_bytes(3, "big")
    # The silent frames are as small as can be, since the first real one may refer to bytes in front of it.
    return _empty_frame(first, 9, fields) + silent * _empty_frame(first, 1)


def _empty_frame(first: _Frame, kbit: int, data: bytes = b"") -> bytes:
    """A frame of the same kind without sound, checksum or padding; `kbit` is the index of its bit rate."""
    head = bytes([0xFF, first.head[1] | 1, kbit << 4 | first.head[2] & 0x0C, first.head[3]])
    frame = _frame(head)
    assert frame is not None
    return (head + bytes(frame.side_bytes) + data).ljust(frame.size, b"\0")


def _behind(source: Source, info: bytes, runs: list[tuple[int, int]]) -> Layout:
    return Layout(((info, *(source.piece(start, end) for start, end in runs)),))
