"""Archives that mean harm, built byte by byte; each is a name, its bytes and a part of the refusal."""

from __future__ import annotations

import bz2
import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common.archives import ArchiveLimits, unpack_into
from common.storage import publish_dir

SUFFIXES = (".flac", ".json")
LIMITS = ArchiveLimits(members=500, member_bytes=2**22, total_bytes=2**23, ratio=100, ratio_from_bytes=2**18)
AUDIO = b"fLaC" + bytes(range(256)) * 3
END = bytes(1024)


def extract(path: Path, folder: Path, suffixes: Sequence[str], *options: object, **more: object) -> None:
    """Unpack an archive into a new folder, which appears only whole."""
    with publish_dir(folder) as temporary:
        unpack_into(path, temporary, suffixes, *options, **more)  # type: ignore[arg-type]


class Hostile(NamedTuple):
    name: str
    data: bytes
    refusal: str


def header(name: bytes, size: int = 0, kind: bytes = b"0", link: bytes = b"", digits: bytes | None = None) -> bytes:
    """A ustar header block; `digits` replaces the size field."""
    block = bytearray(512)
    block[:100] = name[:100].ljust(100, b"\0")
    block[100:124] = b"0000644\0" + b"0000000\0" * 2
    block[124:136] = digits if digits is not None else b"%011o\0" % size
    block[136:148] = b"%011o\0" % 0
    block[156:157] = kind
    block[157:257] = link[:100].ljust(100, b"\0")
    block[257:265] = b"ustar\00000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def body(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def member(name: bytes, data: bytes = AUDIO, kind: bytes = b"0", link: bytes = b"") -> bytes:
    return header(name, len(data), kind, link) + body(data)


def link(name: bytes, target: bytes, kind: bytes = b"2") -> bytes:
    return header(name, 0, kind, target)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    data = b""
    for key, value in records:
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest) + 1
        while length != len(str(length)) + len(rest):
            length = len(str(length)) + len(rest)
        data += str(length).encode() + rest
    return raw_extension(data, kind)


def raw_extension(data: bytes, kind: bytes = b"x") -> bytes:
    return header(b"ext", len(data), kind) + body(data)


GOOD = member(b"good.flac")


def tar_archives() -> list[Hostile]:
    def tar(name: str, refusal: str, *parts: bytes, end: bytes = END) -> Hostile:
        return Hostile(name, b"".join(parts) + end, refusal)

    nul_name = bytearray(header(b"x.flac", len(AUDIO)))
    nul_name[148:156] = b"0000000\0"
    deep_dirs = [b"d" * 100 + b"/"] * 3
    realpath = b"".join(
        header(b"/".join([b"d" * 30] * depth) + b"/", 0, b"5") + link(b"/".join([b"s"] * depth), b"d" * 30)
        for depth in range(1, 4)
    )
    return [
        tar("parent", "leaves its folder", GOOD, member(b"../evil.flac")),
        tar("parent further down", "leaves its folder", member(b"a/../../evil.flac")),
        tar("parent within", "leaves its folder", member(b"a/../evil.flac")),
        tar("absolute", "absolute", member(b"/tmp/evil.flac")),
        tar("absolute after a dot", "absolute", member(b".//tmp/evil.flac")),
        tar("dot alone", "leaves its folder", member(b".")),
        tar("dot inside", "leaves its folder", member(b"a/./evil.flac")),
        tar("no name", "empty", member(b"")),
        tar("trailing slash", "slash", member(b"evil.flac/")),
        tar("double slash", "empty part", member(b"a//evil.flac")),
        tar("backslash", "backslash", member(b"..\\evil.flac")),
        tar("drive", "colon", member(b"C:evil.flac")),
        tar("stream of a file", "colon", member(b"x.txt:evil.flac")),
        tar("reserved", "reserved", member(b"CON.flac")),
        tar("reserved folder", "reserved", member(b"nul/evil.flac")),
        tar("trailing dot of a folder", "dot or a space", member(b"a./evil.flac")),
        tar("trailing space of a folder", "dot or a space", member(b"a /evil.flac")),
        tar("hidden", "dot", member(b".evil.flac")),
        tar("control character", "control", member(b"ev\x1bil.flac")),
        tar("direction override", "invisible", member("\u202ecalf.flac".encode())),
        tar("zero width", "invisible", member("ev\u200bil.flac".encode())),
        tar("full-width parent", "leaves its folder", member("．．/evil.flac".encode())),
        tar("full-width slash", "starts with a dot", member("..／evil.flac".encode())),
        tar("no UTF-8", "UTF-8", member(b"ev\xffil.flac")),
        tar("overlong UTF-8 slash", "UTF-8", member(b"..\xc0\xafevil.flac")),
        tar("long name", "240", member(b"a" * 99, b""), end=b"")._replace(
            data=pax((b"path", b"a" * 300 + b".flac")) + GOOD + END
        ),
        tar("deep name", "parts", member(b"a/" * 9 + b"evil.flac")),
        tar("other suffix", "not allowed", member(b"evil.sh")),
        tar("no suffix", "not allowed", member(b"flac")),
        tar("archive in an archive", "not allowed", member(b"inner.tar", GOOD + END)),
        tar("same name", "another one", GOOD, member(b"good.flac", b"other")),
        tar("same name after a dot", "another one", GOOD, member(b"./good.flac")),
        tar("same name, other case", "another one", GOOD, member(b"GOOD.FLAC")),
        tar("same name, composed", "another one", member("é.flac".encode()), member("e\u0301.flac".encode())),
        tar("same name, sharp s", "another one", member("ß.flac".encode()), member(b"SS.flac")),
        tar("same name, ligature", "another one", member("ﬁ.flac".encode()), member(b"fi.flac")),
        tar("same name, Kelvin sign", "another one", member("\u212a.flac".encode()), member(b"k.flac")),
        tar("file below a file", "another one", GOOD, member(b"good.flac/evil.flac")),
        tar("file for a folder", "another one", member(b"a.flac/b.flac"), member(b"A.flac")),
        tar("folder for a file", "name of a file", GOOD, header(b"good.flac/", 0, b"5")),
        tar("folder outside", "leaves its folder", header(b"../a/", 0, b"5")),
        tar("folder without a name", "empty", header(b"", 0, b"5")),
        tar("folder with data", "holds data", member(b"a/", kind=b"5")),
        tar("symbolic link", "symbolic link", link(b"evil.flac", b"/etc/passwd")),
        tar("chain of links", "symbolic link", link(b"a", b"b"), link(b"b", b".."), member(b"a/evil.flac")),
        tar("link to a folder, then through", "symbolic link", link(b"a", b"/tmp"), member(b"a/evil.flac")),
        tar("hard link", "hard link", link(b"evil.flac", b"/etc/passwd", b"1")),
        tar("hard link to a member", "hard link", GOOD, link(b"evil.flac", b"good.flac", b"1")),
        tar("hard link with data", "hard link", member(b"evil.flac", kind=b"1", link=b"../x")),
        tar("character device", "character device", header(b"evil.flac", 0, b"3")),
        tar("block device", "block device", header(b"evil.flac", 0, b"4")),
        tar("pipe", "pipe", header(b"evil.flac", 0, b"6")),
        tar("contiguous file", "contiguous", member(b"evil.flac", kind=b"7")),
        tar("unknown kind", "no regular file", member(b"evil.flac", kind=b"Z")),
        tar("old GNU sparse", "sparse", member(b"evil.flac", kind=b"S")),
        tar("pax sparse", "sparse", pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.name", b"../evil")), GOOD),
        tar("pax sparse without an end", "sparse", pax((b"GNU.sparse.map", b"0," * 999), (b"GNU.sparse.size", b"9"))),
        tar("pax path", "leaves its folder", pax((b"path", b"../evil.flac")), GOOD),
        tar("pax path with a NUL", "control", pax((b"path", b"good.flac\0.sh")), GOOD),
        tar("pax path, empty", "empty one", pax((b"path", b"")), GOOD),
        tar("pax path twice", "twice", pax((b"path", b"good.flac"), (b"path", b"../evil.flac")), GOOD),
        tar("pax size below nought (CVE-2025-8194)", "gives the size", pax((b"size", b"-1024")), GOOD),
        tar("pax size, no number", "gives the size", pax((b"size", b"1e3")), GOOD),
        tar("pax size, huge", "at most", pax((b"size", b"9" * 18)), GOOD),
        tar("pax size that moves the next header", "checksum", pax((b"size", b"512")), member(b"a.flac", b"x" * 1400)),
        tar("pax for all members", "global header", pax((b"path", b"evil.flac"), kind=b"g"), GOOD),
        tar("pax record with a wrong length", "malformed", raw_extension(b"99 path=evil.flac\n"), GOOD),
        tar("pax record of no length", "malformed", raw_extension(b"0 path=evil.flac\n"), GOOD),
        tar("pax record, length below nought", "malformed", raw_extension(b"-9 path=evil.flac\n"), GOOD),
        tar("pax record without an end", "malformed", raw_extension(b"18 path=evil.flacX"), GOOD),
        tar("pax header too large", "at most 65536", pax((b"comment", b"x" * 70000)), GOOD),
        tar("pax header that claims gigabytes", "at most 65536", header(b"ext", 2**33 - 1, b"x")),
        tar("many pax headers", "several extended", *[pax((b"comment", b"x"))] * 2000, GOOD),
        tar("pax header and then the end", "after an extended", pax((b"path", b"evil.flac"))),
        tar("long name outside", "leaves its folder", raw_extension(b"../" * 5 + b"e" * 120 + b".flac\0", b"L"), GOOD),
        tar("long name that claims gigabytes", "at most 65536", header(b"././@LongLink", 2**33 - 1, b"L")),
        tar("two long names", "two long names", pax((b"path", b"a.flac")), raw_extension(b"b.flac", b"L"), GOOD),
        tar("negative size", "negative", header(b"evil.flac", digits=b"\xff" * 12)),
        tar("size in letters", "number is due", header(b"evil.flac", digits=b"0x7fffffff\0\0")),
        tar("size with a sign", "number is due", header(b"evil.flac", digits=b"-0000000001\0")),
        tar("huge size", "at most", header(b"evil.flac", digits=b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7)),
        tar("size of all, above the cap", "unpacks to more", *(member(b"%d.flac" % n, bytes(2**21)) for n in range(5))),
        tar("too many members", "500 members", *(header(b"%d.flac" % n) for n in range(501))),
        tar("too many folders", "500 members", *(header(b"%d/" % n, 0, b"5") for n in range(501))),
        tar("damaged header", "checksum", GOOD, bytes(nul_name) + body(AUDIO)),
        tar("cut in a member", "cut", header(b"evil.flac", 5000) + b"x" * 100, end=b""),
        tar("cut in a header", "cut", GOOD, header(b"evil.flac")[:200], end=b""),
        tar("cut between members", "no end mark", GOOD, end=b""),
        tar("second archive behind the end", "after its end mark", GOOD, END, member(b"evil.flac")),
        tar("no tar", "no tar", b"hello, world" * 100),
        tar("nothing", "empty", end=b""),
        tar(
            "path beyond PATH_MAX through links (CVE-2025-4517)",
            "symbolic link",
            realpath,
            link(b"escape", b"s/s/s/" + b"../" * 20 + b"etc"),
            link(b"escape/evil.flac", b"escape/passwd", b"1"),
            member(b"escape/evil.flac"),
        ),
        tar("long folders, no links (CVE-2025-4517)", "240", pax((b"path", b"".join(deep_dirs) + b"evil.flac")), GOOD),
        tar(
            "links without a name (CVE-2026-7774)", "symbolic", link(b"", b"a/b"), link(b"a", b".."), link(b"b", b"..")
        ),
        tar("link named as a folder (CVE-2026-7774)", "symbolic", link(b"a/", b".."), member(b"a/evil.flac")),
        tar("link over its own folder (CVE-2024-12718)", "symbolic", header(b"a/", 0, b"5"), link(b"a", b"x/../..")),
        tar("link that a reader normalises (CVE-2025-4138)", "symbolic", link(b"x.flac", b"l/l/../../etc/passwd")),
    ]


def compressed_archives() -> list[Hostile]:
    zeros = header(b"bomb.flac", 2**22) + bytes(2**22) + END
    good = GOOD + END
    packed = gzip.compress(good)
    wrong_sum = packed[:-8] + bytes(4) + packed[-4:]
    return [
        Hostile("gzip bomb", gzip.compress(zeros), "bombs"),
        Hostile("bzip2 bomb", bz2.compress(zeros), "bombs"),
        Hostile("bomb behind the end mark", gzip.compress(good + bytes(2**22)), "bombs"),
        Hostile("gzip in gzip", gzip.compress(packed), "no tar"),
        Hostile("gzip of nothing that is a tar", gzip.compress(b"\x01" * 600), "no tar"),
        Hostile("gzip, wrong checksum", wrong_sum, "damaged or cut"),
        Hostile("gzip, cut", packed[: len(packed) // 2], "damaged or cut"),
        Hostile("gzip, cut in its trailer", packed[:-3], "damaged or cut"),
        Hostile("gzip with a tail", packed + b"evil", "damaged or cut"),
        Hostile("bzip2, cut", bz2.compress(good)[:-20], "damaged or cut"),
        Hostile("xz", b"\xfd7zXZ\x00" + bytes(600), "packed in a way"),
        Hostile("zstandard", b"\x28\xb5\x2f\xfd" + bytes(600), "packed in a way"),
    ]


def zip_of(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def mode(name: str, bits: int, system: int = 3, attributes: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = system, bits << 16 | attributes
    return info


def patched(data: bytes, offset: int, value: bytes, signature: bytes = b"PK\x01\x02") -> bytes:
    """`data` with `value` written `offset` bytes after the first record with `signature`."""
    at = data.index(signature) + offset
    return data[:at] + value + data[at + len(value) :]


def quoted_overlap(data: bytes, copies: int) -> bytes:
    """Directory entries that all unpack the same bytes: local headers overlap (D. Fifield, A better zip bomb)."""
    kernel = zip_of(("a.flac", data), method=zipfile.ZIP_DEFLATED)
    at = kernel.index(b"PK\x01\x02")
    entry = kernel[at : kernel.index(b"PK\x05\x06")]
    entries = b"".join(entry.replace(b"a.flac", b"%c.flac" % (97 + number)) for number in range(copies))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, copies, copies, len(entries), at, 0)
    return kernel[:at] + entries + end


def zip_archives() -> list[Hostile]:
    good = zip_of(("good.flac", AUDIO))
    squeezed = zip_of(("good.flac", AUDIO * 9), method=zipfile.ZIP_DEFLATED)
    at = good.index(b"PK\x05\x06")
    swallowed = zip_of(("good.flac", AUDIO)).replace(b"good.flac", b"../x.flac", 1)
    return [
        Hostile("zip: parent", zip_of(("../evil.flac", AUDIO)), "leaves its folder"),
        Hostile("zip: absolute", zip_of(("/tmp/evil.flac", AUDIO)), "absolute"),
        Hostile("zip: backslash", zip_of(("..\\evil.flac", AUDIO)), "backslash"),
        Hostile("zip: drive", zip_of(("C:/evil.flac", AUDIO)), "colon"),
        Hostile("zip: NUL in a name", good.replace(b"good.flac", b"x\0d.flac.flac"[:9]), "control"),
        Hostile("zip: same name", zip_of(("a.flac", b"1"), ("A.flac", b"2")), "another one"),
        Hostile("zip: same name, composed", zip_of(("é.flac", b"1"), ("e\u0301.flac", b"2")), "another one"),
        Hostile("zip: other suffix", zip_of(("evil.exe", b"MZ")), "not allowed"),
        Hostile("zip: archive in an archive", zip_of(("inner.zip", good)), "not allowed"),
        Hostile("zip: link", zip_of((mode("evil.flac", 0o120777), b"/etc/passwd")), "link"),
        Hostile("zip: link named as a folder", zip_of((mode("evil/", 0o120777), b"/etc")), "link"),
        Hostile("zip: pipe", zip_of((mode("evil.flac", 0o010644), b"")), "no regular file"),
        Hostile("zip: device", zip_of((mode("evil.flac", 0o060644), b"")), "no regular file"),
        Hostile("zip: reparse point", zip_of((mode("evil.flac", 0, 0, 0x400), AUDIO)), "link"),
        Hostile("zip: folder with data", zip_of((mode("evil/", 0o040755), AUDIO)), "holds data"),
        Hostile("zip: encrypted", patched(good, 8, b"\x01\x00"), "encrypted"),
        Hostile("zip: bzip2 inside", zip_of(("a.flac", AUDIO), method=zipfile.ZIP_BZIP2), "packed in a way"),
        Hostile("zip: lzma inside", zip_of(("a.flac", AUDIO), method=zipfile.ZIP_LZMA), "packed in a way"),
        Hostile("zip: bomb", zip_of(("a.flac", bytes(2**22)), method=zipfile.ZIP_DEFLATED), "bombs"),
        Hostile("zip: overlapping members", quoted_overlap(bytes(2**18), 20), "bombs"),
        Hostile("zip: two overlapping members", quoted_overlap(AUDIO, 2), "overlaps"),
        Hostile("zip: member over the directory", patched(good, 20, struct.pack("<L", 5000)), "overlaps the directory"),
        Hostile("zip: wrong checksum", good.replace(AUDIO, AUDIO[::-1]), "damaged or cut"),
        Hostile("zip: claims less than it holds", patched(squeezed, 24, struct.pack("<L", 100)), "damaged or cut"),
        Hostile("zip: claims more than it holds", patched(squeezed, 24, struct.pack("<L", 10000)), "cut"),
        Hostile("zip: claims 4 GB", patched(squeezed, 24, b"\xfe" + b"\xff" * 3), "at most"),
        Hostile("zip: two names for a member", swallowed, "damaged or cut"),
        Hostile("zip: cut", good[: at - 10], "its directory"),
        Hostile("zip: cut in its end", good[:-4], "its directory"),
        Hostile("zip: directory beyond the file", patched(good, 12, b"\xff" * 8, b"PK\x05\x06"), "members"),
        Hostile("zip: too many members", zip_of(*((f"{n}.flac", b"") for n in range(501))), "500 members"),
        Hostile(
            "zip: a million members claimed in zip64",
            good[:at]
            + struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 10**6, 10**6, at, 0)
            + struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
            + good[at:],
            "members",
        ),
    ]


ALL = (*tar_archives(), *compressed_archives(), *zip_archives())

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
