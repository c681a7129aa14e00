"""Replies of an endpoint: used, repaired, kept for the next run, and paid for once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from common.contracts.generation import Price
from common.errors import ConfigError
from tests.unit.captions.desks import captions_json, desk_at, reply_body, tasks
from tests.unit.captions.families import FAMILIES, answer
from tests.unit.captions.stub import Send, envelope, facts, good, good_reply, serve


@pytest.mark.parametrize("name", FAMILIES)
def test_replies_of_every_family_are_used_at_the_first_asking(name: str) -> None:
    asked = [*tasks(4), *tasks(1, task_id="e", prompt="extract", caption="a loud dog bark", count=1)]
    with serve(answer(name)) as stub, desk_at(stub, attempts=1, concurrency=1) as desk:
        answers, tally = desk.ask(asked)
    assert (tally.replaced, tally.repaired, tally.reasons) == (0, 0, {})
    assert len(stub.requests) == 5 + FAMILIES[name].tried
    written = [one for answer in answers.values() for one in answer.captions]
    assert {one.writer for one in written} == {"endpoint:stub"} and len({one.caption for one in written}) == 8
    assert all(one.caption.startswith("a dog bark near door") for one in written)
    assert answers["e"].elements.events == ("loud and close",)


def test_a_repair_of_what_was_cut_off_has_twice_the_room_and_asks_for_the_rest_only() -> None:
    def behave(request: dict[str, Any], number: int) -> Send:
        if request["max_tokens"] == 50:
            return Send(body=reply_body('{"captions": ["a dog bark", "one dog ba', "length"))
        return Send(good_reply(request))

    with serve(behave) as stub, desk_at(stub, max_tokens=50) as desk:
        answers, tally = desk.ask(tasks(1, count=3))
    assert [request["max_tokens"] for request in stub.requests] == [50, 100]
    assert facts(stub.requests[1])["count"] == 2 and "be brief" in stub.requests[1]["messages"][1]["content"]
    assert answers["t000"].captions[0].caption == "a dog bark"
    assert (tally.repaired, tally.replaced) == (2, 0)


def test_a_reply_that_was_paid_for_and_cut_off_is_not_asked_for_again() -> None:
    body = envelope("{").replace(b'"stop"', b'"length"')
    with serve(lambda request, number: Send(body=body)) as stub:
        for _ in range(2):
            with desk_at(stub) as desk:
                _, tally = desk.ask(tasks(3))
        assert len(stub.requests) == 6
    assert tally.reasons["cut_off"] == 6 and tally.usage.whole.output_tokens == 120


def test_good_replies_among_bad_ones_are_kept() -> None:
    def behave(request: dict[str, Any], number: int) -> Send:
        return good(request) if number % 2 else Send(drop=True)

    with serve(behave) as stub, desk_at(stub, attempts=12, concurrency=1) as desk:
        answers, tally = desk.ask(tasks(10))
    assert tally.replaced == 0 and tally.repaired == 0
    assert all(one.writer == "endpoint:stub" for answer in answers.values() for one in answer.captions)


def test_a_refused_reply_is_repaired_once_with_the_reason_and_without_its_words() -> None:
    def behave(request: dict[str, Any], number: int) -> Send:
        told = "could not be used" in request["messages"][-1]["content"]
        return Send(good_reply(request) if told else captions_json("an evil cat", "another evil cat"))

    with serve(behave) as stub, desk_at(stub) as desk:
        _, tally = desk.ask(tasks(3))
    assert (tally.repaired, tally.replaced) == (6, 0)
    texts = [request["messages"][-1]["content"] for request in stub.requests]
    repairs = [text for text in texts if "could not be used" in text]
    assert len(repairs) == 3
    assert all("lacked the exact label" in text and "evil" not in text for text in repairs)


def test_only_the_missing_captions_of_a_half_good_reply_are_replaced() -> None:
    def behave(request: dict[str, Any], number: int) -> Send:
        return Send(captions_json("A dog bark, near by.", "a cat"))

    with serve(behave) as stub, desk_at(stub) as desk:
        answers, tally = desk.ask(tasks(1))
    assert [one.writer for one in answers["t000"].captions] == ["endpoint:stub", "grammar/1"]
    assert answers["t000"].captions[0].caption == "a dog bark, near by"
    assert tally.replaced == 1


def test_a_rerun_sends_no_request() -> None:
    with serve(good) as stub:
        with desk_at(stub) as desk:
            first, spent = desk.ask(tasks(6))
        sent = len(stub.requests)
        with desk_at(stub, concurrency=1, price_per_million_input=5.0) as desk:
            second, again = desk.ask(tasks(6))
        assert (sent, len(stub.requests)) == (6, 6)
        with desk_at(stub, temperature=0.1) as desk:
            desk.ask(tasks(6))
        assert len(stub.requests) == 12
    assert first == second
    assert (spent.usage.requests, again.usage.requests, again.usage.cached) == (6, 0, 6)
    assert again.usage.paid == Price() and again.usage.whole == spent.usage.whole != Price()


def test_a_reply_that_two_replicates_share_is_counted_once() -> None:
    extract = {"prompt": "extract", "caption": "a dog bark in rain"}
    with serve(good) as stub:
        tallies = []
        for _ in range(2):
            with desk_at(stub, price_per_million_input=1.0) as desk:
                tallies.append(desk.ask(tasks(2, **extract))[1])
    both = tallies[0] + tallies[1]
    assert both.usage.requests == both.usage.cached == 2
    assert both.usage.whole == both.usage.paid == tallies[0].usage.whole == tallies[1].usage.whole


def test_a_killed_run_pays_only_for_what_it_had_not_received() -> None:
    def behave(request: dict[str, Any], number: int) -> Send:
        return good(request) if number <= 4 else Send(status=401)

    with serve(behave) as stub:
        with desk_at(stub, concurrency=1) as desk, pytest.raises(ConfigError):
            desk.ask(tasks(6))
        stub.behave = good
        before = len(stub.requests)
        with desk_at(stub, concurrency=1) as desk:
            _, tally = desk.ask(tasks(6))
        assert len(stub.requests) - before == 2
        assert tally.usage.cached == 4


def test_the_order_of_tasks_and_of_replies_changes_nothing(run_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []
    for number, order in enumerate((slice(None), slice(None, None, -1))):
        monkeypatch.setenv("SYNTHIO_STORE", str(run_store / str(number)))
        reply = lambda request, n: Send(captions_json("a dog bark", f"a dog bark {request['seed'] % 3}"))  # noqa: E731
        with serve(reply) as stub, desk_at(stub) as desk:
            answers.append(desk.ask(tasks(8)[order])[0])
    assert answers[0] == answers[1]


def test_tokens_and_money_are_counted() -> None:
    with serve(good) as stub, desk_at(stub, price_per_million_input=2.5, price_per_million_output=10.0) as desk:
        _, tally = desk.ask(tasks(4))
    paid = tally.usage.paid
    assert (paid.input_tokens, paid.output_tokens) == (400, 80)
    assert paid.cost == pytest.approx((400 * 2.5 + 80 * 10) / 1e6)


def test_requests_in_flight_are_bounded() -> None:
    def behave(request: dict[str, Any], number: int) -> Send:
        time.sleep(0.01)
        return good(request)

    with serve(behave) as stub, desk_at(stub, concurrency=3) as desk:
        desk.ask(tasks(20))
    assert stub.most_in_flight <= 3
