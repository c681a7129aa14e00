from __future__ import annotations

from datetime import UTC, datetime

import pytest

from common.captions.server_errors import WORDS, asked_wait_s, read_error

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.25"}, 1.25),
        ({"retry-after": " 3 "}, 3),
        ({"retry-after": "Fri, 01 May 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Friday, 01-May-26 12:00:30 GMT"}, 30),
        ({"retry-after": "Fri, 01 May 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "Fri, 01 May 2026 10:00:20 GMT", "date": "Fri, 01 May 2026 10:00:00 GMT"}, 20),
        ({"retry-after": "2026-05-01T12:00:10Z"}, 10),
        ({"retry-after": "20s"}, 20),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "1e9"}, 0),
        ({"retry-after": "٣"}, 0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}, 360),
        (
            {
                "x-ratelimit-reset-tokens": "1m30.5s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-requests": "9h",
            },
            90.5,
        ),
        ({"x-ratelimit-reset-tokens": "250ms", "x-ratelimit-reset-requests": "8.64s"}, 0.25),
        ({"x-ratelimit-reset": str(EPOCH + 12)}, 12),
        ({"x-ratelimit-reset": str((EPOCH + 12) * 1000)}, 12),
        ({"ratelimit-reset": "40"}, 40),
        ({"anthropic-ratelimit-requests-reset": "2026-05-01T12:01:00Z"}, 60),
    ],
)
def test_a_wait_is_understood_in_every_form(headers: dict[str, str], wait_s: float) -> None:
    assert asked_wait_s(headers, "", NOW) == pytest.approx(wait_s)


@pytest.mark.parametrize(
    ("body", "wait_s"),
    [
        ("Rate limit reached. Please try again in 20s. Visit the page", 20),
        ("Please try again in 6m0s.", 360),
        ("Please retry in 37.5 seconds", 37.5),
        ("please wait 250ms", 0.25),
        ("Try again in 500 milliseconds.", 0.5),
        ("wait 1 min 30 sec", 90),
        ('{"error": {"details": [{"@type": "RetryInfo", "retryDelay": "34s"}]}}', 34),
        ("Please try again later", 0),
    ],
)
def test_a_wait_in_the_text_counts_where_no_header_says_one(body: str, wait_s: float) -> None:
    assert asked_wait_s({}, body, NOW) == pytest.approx(wait_s)
    assert asked_wait_s({"retry-after": "2"}, body, NOW) == 2


def test_codes_and_words_of_an_error() -> None:
    error = read_error(
        '{"error": {"message": "No  more\\nmoney", "type": "Insufficient_Quota", "param": null, "code": 7}}'
    )
    assert error == ("No more money", frozenset({"insufficient_quota"}))
    assert read_error('{"object": "error", "message": {"detail": [{"loc": ["body", "seed"], "msg": "extra"}]}}') == (
        "extra",
        frozenset({"body", "seed"}),
    )


@pytest.mark.parametrize(
    "body", ["", "{", "[" * 5000, "\x00\x1b[31m" * 99, '{"error": null}', '{"a": ' * 3000, "é" * 900]
)
def test_no_body_whatever_raises_or_is_shown_whole(body: str) -> None:
    message = read_error(body).message
    assert len(message) <= WORDS and (message.isprintable() or not message)
