"""What a server refuses: tried again, asked in another form, or the end of the stage with words that help."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from common.captions.server_errors import Passing
from common.errors import ConfigError, DataError
from tests.unit.captions.desks import CANARY, HANG_S, PER_KIND, VARIABLE, desk_at, tasks
from tests.unit.captions.stub import Send, good, good_reply, serve

PASSING = {
    "http_429": Send(status=429, headers=(("Retry-After", "0.05"),)),
    "http_500": Send(status=500),
    "http_503": Send(status=503),
    "timeout": Send(hang=True),
    "connection": Send(drop=True),
}


@pytest.mark.parametrize("reason", PASSING)
def test_what_passes_is_tried_again_counted_and_costs_no_caption(reason: str) -> None:
    """Each of twelve requests fails once and is answered at its second attempt."""
    seen: set[int] = set()

    def behave(request: dict[str, Any], number: int) -> Send:
        first = request["seed"] not in seen
        seen.add(request["seed"])
        return PASSING[reason] if first else good(request)

    limit = {"timeout_s": 2 * HANG_S} if reason == "timeout" else {}
    with serve(behave) as stub, desk_at(stub, **limit) as desk:
        answers, tally = desk.ask(tasks(PER_KIND))
    assert tally.usage.failed == {reason: PER_KIND} and tally.usage.requests == 2 * PER_KIND
    assert tally.replaced == 0 and tally.reasons == {}
    assert {one.writer for answer in answers.values() for one in answer.captions} == {"endpoint:stub"}


def test_waits_between_attempts_are_jittered_and_never_longer_than_allowed() -> None:
    for attempt in (*range(1, 9), 5000):
        waits = [Passing("http_500").pause_s(attempt, 8.0) for _ in range(50)]
        assert len(set(waits)) > 40 and min(waits) >= 0 and max(waits) <= min(8.0, 2.0 ** (min(attempt, 9) - 1))
    assert 5.0 <= Passing("http_503", 5.0).pause_s(1, 8.0) <= 5.8
    assert Passing("http_503", 86400.0).pause_s(1, 8.0) <= 8.8
    limited = Passing("http_429", 60.0, "limit")
    assert 60.0 <= limited.pause_s(1, 8.0) <= 60.8, "a limit's wait is the server's to say"
    assert Passing("http_400", kind="adapted").pause_s(9, 8.0) == 0.0


def test_faults_are_counted_and_limits_are_timed() -> None:
    limited = Send(status=429, headers=(("retry-after-ms", "5"),))
    turns = [limited, limited, Send(status=500), limited, Send(status=500)]
    with (
        serve(lambda request, number: turns[(number - 1) % len(turns)]) as stub,
        desk_at(stub, attempts=2, concurrency=1) as desk,
    ):
        _, tally = desk.ask(tasks(1))
    assert tally.usage.failed == {"http_429": 6, "http_500": 4} and tally.usage.requests == 10
    assert tally.replaced == tally.pieces


def test_a_limit_per_minute_is_outlasted_whatever_the_number_of_attempts() -> None:
    limited = Send(status=429, headers=(("retry-after-ms", "5"),))
    with (
        serve(lambda request, number: limited if number <= 40 else good(request)) as stub,
        desk_at(stub, attempts=1, concurrency=2) as desk,
    ):
        _, tally = desk.ask(tasks(4))
    assert tally.usage.failed == {"http_429": 40} and tally.replaced == 0 and tally.reasons == {}


@pytest.mark.parametrize(
    ("send", "told"),
    [
        (Send(status=429, headers=(("Retry-After", "86400"),)), "asks to wait 86400 s.*limit_wait_s 600;.*are kept"),
        (
            Send(status=429, body=b'{"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}'),
            "no credit left for this key .429: You exceeded your quota.; top up",
        ),
        (
            Send(status=402, body=b'{"error": "Insufficient balance"}'),
            "no credit left for this key .402: Insufficient balance",
        ),
    ],
    ids=["limit per day", "quota", "balance"],
)
def test_a_limit_that_cannot_be_outlasted_ends_the_stage_at_once(send: Send, told: str) -> None:
    with (
        serve(lambda request, number: send) as stub,
        desk_at(stub, concurrency=1, attempts=5) as desk,
        pytest.raises(ConfigError, match=told),
    ):
        desk.ask(tasks(6))
    assert len(stub.requests) == 1


ADAPTATIONS: dict[str, tuple[str, Callable[[dict[str, Any]], bool]]] = {
    "max_tokens": (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        lambda sent: "max_tokens" in sent,
    ),
    "temperature": (
        "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is supported.",
        lambda sent: "temperature" in sent,
    ),
    "seed": ("Extra inputs are not permitted: seed", lambda sent: "seed" in sent),
    "response_format": ("This response_format type is unavailable now", lambda sent: "response_format" in sent),
    "system": ("System role not supported", lambda sent: sent["messages"][0]["role"] == "system"),
    "context": (
        "This model's maximum context length is 2048 tokens. However, you requested 4596 tokens (500 in the messages, "
        "4096 in the completion).",
        lambda sent: sent.get("max_tokens", 0) > 1548,
    ),
}


@pytest.mark.parametrize("setting", ADAPTATIONS)
def test_a_setting_that_a_server_does_not_know_is_given_up_and_costs_no_caption(setting: str) -> None:
    said, refuses = ADAPTATIONS[setting]

    def behave(request: dict[str, Any], number: int) -> Send:
        if refuses(request):
            return Send(
                status=400, body=json.dumps({"error": {"message": said, "type": "invalid_request_error"}}).encode()
            )
        return Send(good_reply(request | {"seed": request.get("seed", number)}))

    with serve(behave) as stub, desk_at(stub, attempts=1, concurrency=1) as desk:
        _, tally = desk.ask(tasks(3))
    assert tally.replaced == 0 and tally.reasons == {}
    assert len(stub.requests) == (5 if setting == "context" else 4), "only the first request is sent in vain"


def test_a_server_that_knows_several_settings_not_is_asked_in_the_form_it_takes() -> None:
    def behave(request: dict[str, Any], number: int) -> Send:
        for said, refuses in ADAPTATIONS.values():
            if refuses(request):
                return Send(status=422, body=json.dumps({"detail": [{"loc": ["body"], "msg": said}]}).encode())
        return Send(good_reply(request | {"seed": number}))

    with serve(behave) as stub, desk_at(stub, attempts=1) as desk:
        _, tally = desk.ask(tasks(6))
    assert tally.replaced == 0
    assert set(stub.requests[-1]) == {"model", "messages", "max_completion_tokens"}


@pytest.mark.parametrize(("setting", "value"), [("temperature", 0.2), ("max_tokens", 4000), ("max_tokens", None)])
def test_a_field_that_the_settings_add_is_never_given_up(setting: str, value: float | None) -> None:
    said = ADAPTATIONS["context" if setting == "max_tokens" else setting][0]
    refusal = Send(status=400, body=json.dumps({"error": {"message": said}}).encode())
    with (
        serve(lambda request, number: refusal) as stub,
        desk_at(stub, extra={setting: value}, concurrency=1) as desk,
        pytest.raises(ConfigError, match="answered 400"),
    ):
        desk.ask(tasks(3))
    assert [request[setting] for request in stub.requests] == [value]


def test_a_placeholder_for_a_key_hides_no_word_of_the_server() -> None:
    said, refuses = ADAPTATIONS["max_tokens"]

    def behave(request: dict[str, Any], number: int) -> Send:
        if refuses(request):
            return Send(status=400, body=json.dumps({"error": {"message": said}}).encode())
        return Send(good_reply(request))

    with serve(behave) as stub, desk_at(stub, key="token") as desk:
        assert desk.ask(tasks(1))[1].replaced == 0


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, VARIABLE),
        (403, VARIABLE),
        (404, "the model 'stub'.*writer.endpoint"),
        (400, "room for the prompt"),
        (422, "takes"),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        '{"error": {"message": "SAID", "type": "x", "code": null}}',
        '{"object": "error", "message": "SAID", "code": 400}',
        '{"error": "SAID"}',
        '[{"error": {"code": 400, "message": "SAID", "status": "INVALID_ARGUMENT"}}]',
        '{"detail": [{"loc": ["body", "x"], "msg": "SAID"}]}',
        "<html><h1>SAID</h1></html>",
    ],
    ids=["openai", "vllm", "ollama", "google", "fastapi", "proxy"],
)
def test_a_refused_request_stops_the_stage_with_the_servers_words_and_what_to_do(
    status: int, hint: str, body: str
) -> None:
    """The key is left out of them, and they are cut after 200 characters."""
    words = f"no such thing for {CANARY}"
    reply = Send(status=status, body=body.replace("SAID", f"{words} {'and more ' * 40}").encode())
    with (
        serve(lambda request, number: reply) as stub,
        desk_at(stub) as desk,
        pytest.raises(ConfigError, match=rf"answered {status}: no such thing for \[key\] and.*….*{hint}") as caught,
    ):
        desk.ask(tasks(3))
    assert CANARY.lower() not in str(caught.value).lower() and len(str(caught.value)) < 550


def test_an_endpoint_that_is_down_fails_the_stage_instead_of_becoming_a_grammar_run() -> None:
    with (
        serve(lambda request, number: Send(status=503)) as stub,
        desk_at(stub, replaced=0.5) as desk,
        pytest.raises(DataError, match=r"http_503 \(6\)"),
    ):
        desk.ask(tasks(3))
