"""What a file that cannot be decoded is in truth, told by its first bytes."""

from __future__ import annotations

HEAD_BYTES = 512

_AUDIO = (b"RIFF", b"RF64", b"RIFX", b"fLaC", b"OggS", b"FORM", b"ID3", b".snd", b"caff", b"riff", b"NIST")
"""First bytes of audio, which are letters as well: what begins so and cannot be decoded is damaged."""
_POINTERS = (
    (b"version https://git-lfs", "lfs_pointer", "a Git LFS pointer in place of the file; run `git lfs pull`"),
    (b"/annex/objects/", "annex_pointer", "a git-annex pointer in place of the file; run `git annex get`"),
)
_FOREIGN = (
    (4, b"ftyp", "MP4 (such as M4A or 3GP)"),
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "Windows Media (WMA)"),
    (0, b"#!AMR", "AMR"),
    (0, b"ADIF", "AAC"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"\x0bw", "AC-3"),
    (0, b"MAC ", "Monkey's Audio (APE)"),
    (0, b"wvpk", "WavPack"),
    (0, b"TTA1", "True Audio"),
    (0, b"MPCK", "Musepack"),
    (0, b"MP+", "Musepack"),
    (0, b"DSD ", "DSD"),
    (0, b"FRM8", "DSD"),
    (0, b".RMF", "RealMedia"),
    (0, b".ra\xfd", "RealAudio"),
    (8, b"AVI ", "AVI"),
    (0, b"FLV\x01", "Flash video"),
)
_OTHER = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"MThd", "a MIDI file, which holds notes and no sound"),
)


def told_by_content(head: bytes) -> tuple[str, str] | None:
    """Reason code and sentence, with the remedy, for a file that is no audio which can be read.

    Args:
        head: the first `HEAD_BYTES` bytes of the file.

    Returns `lfs_pointer`, `annex_pointer`, `web_page`, `foreign_format`, `zeros` or `no_audio` with the sentence; None
    if the bytes tell nothing.
    """
    for start, code, sentence in _POINTERS:
        if head.startswith(start):
            return code, sentence
    if head and not head.strip(b"\0"):
        return "zeros", "nothing but zero bytes, as of a copy that broke off; copy or fetch the file again"
    for place, magic, name in _FOREIGN:
        if head[place:].startswith(magic):
            return "foreign_format", f"{name} cannot be read; convert it, as by `ffmpeg -i FILE FILE.wav`"
    for magic, name in _OTHER:
        if head.startswith(magic):
            return "no_audio", f"it is {name}; expected an audio file"
    return _text(head)


def _text(head: bytes) -> tuple[str, str] | None:
    """Web pages and answers of servers that were saved in place of a file, and other text."""
    text = head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")
    if (
        not text
        or head.startswith(_AUDIO)
        or sum(character.isprintable() or character in "\t\r\n" for character in text) < len(text)
    ):
        return None
    shown = " ".join(text.split())[:60]
    if text.lower().startswith(("<!doctype", "<html", "<head", "<body", "<?xml", "<error", "<!--")) or text[0] in "{[":
        kind = (
            "web page" if text.lower().startswith(("<!doctype html", "<html", "<head", "<body")) else "server's answer"
        )
        return "web_page", f"a {kind} was saved in place of the file ({shown!r}); fetch it again"
    return "no_audio", f"it is text ({shown!r}); expected an audio file"
