"""A minimal tar reader, one header at a time, limited to the needs of a corpus.

It replaces `tarfile`, which takes a damaged header for the end of the archive, reads extended headers of any size
into memory, and in the Python versions in use loops for ever on some sizes (CVE-2025-8194). Formats: V7, ustar,
GNU (long names) and pax (`path`, `size`); see POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header".
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from common.archives.rules import ArchiveLimits, Names, Refused

BLOCK = 512
MAX_EXTENDED_BYTES = 1 << 16
"""Size limit of an extended header or long name."""

_CHUNK = 1 << 20
_FILE, _FOLDER = (b"0", b"\0"), b"5"
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a pipe",
    b"7": "a contiguous file",
    b"S": "a sparse file",
    b"D": "a folder dump",
    b"M": "a continued file",
    b"V": "a volume label",
}


class Header(NamedTuple):
    """One header block."""

    name: bytes
    size: int
    kind: bytes


@dataclass
class _Extended:
    """Extended headers of the next member."""

    seen: list[bytes] = field(default_factory=list)
    name: bytes | None = None
    size: int | None = None


def read_tar(
    stream: BinaryIO, names: Names, limits: ArchiveLimits
) -> Iterator[tuple[str, int, Callable[[int], bytes]]]:
    """Yield `(name, size, read)` of each regular file; each must be read to its end before the next is requested.

    Raises Refused: the archive breaks a rule, is not a tar, or has no end mark.
    """
    members = total = 0
    extended = _Extended()
    while (header := _header(stream, members == 0 and not extended.seen)) is not None:
        is_member = header.kind not in (b"x", b"g", b"L", b"K")
        members += is_member
        size = extended.size if is_member and extended.size is not None else header.size
        total += size
        if members > limits.members:
            raise Refused(f"it has more than {limits.members} members")
        if not is_member:
            _extend(extended, header, _extension(stream, header))
            continue
        name, extended = _decoded(extended.name or header.name), _Extended()
        if size > limits.member_bytes:
            raise Refused(f"member {name!r:.80} has {size} bytes, at most {limits.member_bytes} may be")
        if total > limits.total_bytes:
            raise Refused(f"it unpacks to more than {limits.total_bytes} bytes")
        if header.kind == _FOLDER:
            names.folder(name)
            if size:
                raise Refused(f"folder {name!r:.80} holds data")
        elif header.kind in _FILE:
            kept = names.file(name)
            if kept is None:
                _skip(stream, size)
            else:
                yield kept, size, stream.read
            _skip(stream, -size % BLOCK)
        else:
            raise Refused(f"member {name!r:.80} is {_KINDS.get(header.kind, 'no regular file')}")
    if extended.seen:
        raise Refused("it ends after an extended header")
    while block := stream.read(_CHUNK):
        if block.count(0) != len(block):
            raise Refused("there is data after its end mark")


def _header(stream: BinaryIO, first: bool) -> Header | None:
    block = stream.read(BLOCK)
    if block == bytes(BLOCK):
        return None
    if len(block) < BLOCK:
        raise Refused("it is no tar or zip" if first else "it is cut: there is no end mark")
    # The checksum counts its own field as spaces; some old programs sum signed bytes.
    summed = block[:148] + b" " * 8 + block[156:]
    signed = sum(summed) - 256 * sum(byte > 127 for byte in summed)
    try:
        checksum = _number(block[148:156])
    except Refused:
        checksum = -1
    if checksum not in (sum(summed), signed):
        raise Refused("it is no tar or zip" if first else "a header is damaged: its checksum is wrong")
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    return Header(prefix + b"/" + name if prefix else name, _number(block[124:136]), block[156:157])


def _number(digits: bytes) -> int:
    if digits[0] == 0x80:
        return int.from_bytes(digits[1:], "big")
    if digits[0] & 0x80:
        raise Refused("a header holds a negative number")
    text = digits.partition(b"\0")[0].strip(b" ")
    if text.translate(None, b"01234567"):
        raise Refused(f"a header holds {text!r:.40} where a number is due")
    return int(text, 8) if text else 0


def _extension(stream: BinaryIO, header: Header) -> bytes:
    if header.size > MAX_EXTENDED_BYTES:
        raise Refused(f"an extended header has {header.size} bytes, at most {MAX_EXTENDED_BYTES} may be")
    data = stream.read(header.size)
    if len(data) < header.size:
        raise Refused("it is cut in an extended header")
    _skip(stream, -header.size % BLOCK)
    return data


def _extend(extended: _Extended, header: Header, data: bytes) -> None:
    if header.kind in extended.seen or len(extended.seen) > 3:
        raise Refused("several extended headers stand before one member")
    extended.seen.append(header.kind)
    if header.kind == b"K":
        return
    if header.kind == b"L":
        _set_name(extended, data.rstrip(b"\0"))
        return
    records = _pax_records(data)
    if any(key.startswith(b"GNU.sparse") for key in records):
        raise Refused("a member is a sparse file")
    if header.kind == b"g":
        if {b"path", b"size", b"linkpath"} & records.keys():
            raise Refused("a global header names or sizes all members")
        return
    if b"path" in records:
        _set_name(extended, records[b"path"])
    if b"size" in records:
        digits = records[b"size"]
        if not digits.isdigit() or len(digits) > 20:
            raise Refused(f"an extended header gives the size {digits!r:.40}")
        extended.size = int(digits)


def _set_name(extended: _Extended, name: bytes) -> None:
    if extended.name is not None or not name:
        raise Refused("a member has two long names or an empty one")
    extended.name = name


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        digits, _, rest = data[at : at + 12].partition(b" ")
        end = at + int(digits) if digits.isdigit() and len(digits) < 10 else 0
        key, equals, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if not rest or not at < end <= len(data) or data[end - 1 : end] != b"\n" or not key or not equals:
            raise Refused("an extended header is malformed")
        if key in records:
            raise Refused(f"an extended header gives {key!r:.40} twice")
        records[key] = value
        at = end
    return records


def _decoded(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"member {name!r:.80}: the name is no UTF-8") from error


def _skip(stream: BinaryIO, size: int) -> None:
    while size > 0:
        found = len(stream.read(min(size, _CHUNK)))
        if not found:
            raise Refused("it is cut")
        size -= found
