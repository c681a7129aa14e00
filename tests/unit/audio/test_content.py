"""What stands in a file that only has the name of audio."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.audio.file import HEAD_BYTES, AudioError, open_audio, told_by_content

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 72862\n"


@pytest.mark.parametrize(
    ("head", "code", "told"),
    [
        (LFS, "lfs_pointer", "git lfs pull"),
        (b"/annex/objects/SHA256E-s72862--ab.wav\n", "annex_pointer", "git annex get"),
        (b"<!DOCTYPE html>\n<html><head><title>Sign in", "web_page", "a web page was saved"),
        (b"\xef\xbb\xbf \n<HTML>", "web_page", "a web page was saved"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "web_page", "AccessDenied"),
        (b'{"message": "Not Found"}', "web_page", "server's answer"),
        (b"404: Not Found", "no_audio", "404: Not Found"),
        (b"\0" * HEAD_BYTES, "zeros", "broke off"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "foreign_format", "MP4"),
        (b"\x1aE\xdf\xa3\x01\0\0\0", "foreign_format", "WebM"),
        (b"0&\xb2u\x8ef\xcf\x11\xa6\xd9", "foreign_format", "WMA"),
        (b"#!AMR-WB\n", "foreign_format", "AMR"),
        (b"\xff\xf1\x50\x80", "foreign_format", "AAC"),
        (b"RIFF\x10\0\0\0AVI LIST", "foreign_format", "AVI"),
        (b"PK\x03\x04\x14\0", "no_audio", "ZIP"),
        (b"\x89PNG\r\n\x1a\n", "no_audio", "PNG"),
        (b"MThd\0\0\0\x06", "no_audio", "MIDI"),
    ],
)
def test_the_first_bytes_name_it(head: bytes, code: str, told: str) -> None:
    found = told_by_content(head)
    assert found is not None and found[0] == code and told in found[1]


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "RF64", "NIST", "VOC"])
def test_audio_is_not_taken_for_something_else(container: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.linspace(-0.5, 0.5, 4000), 8000, format=container)
    assert told_by_content(file.getvalue()[:HEAD_BYTES]) is None


@pytest.mark.parametrize(
    "head", [b"", b"RIFF", b"OggS", b"\x00\x01\x02\x7f\x80", bytes(range(256)), b"RIFF\0\0\0\0WAVE"]
)
def test_unknown_bytes_tell_nothing(head: bytes) -> None:
    assert told_by_content(head) is None


@pytest.mark.parametrize("suffix", ["wav", "mp3", "flac", "ogg"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LFS, "lfs_pointer"),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "web_page"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(range(256)) * 4, "foreign_format"),
        (b"PK\x03\x04" + bytes(range(256)), "no_audio"),
        (b"\0" * 4096, "zeros"),
        (b"\x01\x02\x03\x04" * 64, "unreadable"),
    ],
)
def test_opening_a_file_tells_what_it_is(tmp_path: Path, suffix: str, content: bytes, reason: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=f"clip.{suffix}: ") as refusal, open_audio(path):
        pass
    assert refusal.value.reason == reason
