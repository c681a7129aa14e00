from __future__ import annotations

import threading

import pytest

from components.synthesize_audio.synthesis import trailing


def test_jobs_start_in_order_and_all_are_done_at_the_end() -> None:
    done: list[int] = []
    with trailing(threads=1, limit=3) as submit:
        for number in range(20):
            submit(done.append, number)
    assert done == list(range(20))


def test_the_caller_goes_on_while_a_job_runs_and_waits_only_when_the_queue_is_full() -> None:
    gate, submitted = threading.Event(), threading.Event()

    def caller() -> None:
        with trailing(threads=1, limit=2) as submit:
            submit(gate.wait)
            submit(int)
            submitted.set()
            submit(int)
            third.set()

    third = threading.Event()
    thread = threading.Thread(target=caller)
    thread.start()
    assert submitted.wait(5)
    assert not third.wait(0.2)
    gate.set()
    assert third.wait(5)
    thread.join(5)


def test_several_threads_work_at_once() -> None:
    meeting = threading.Barrier(3)
    with trailing(threads=3, limit=3) as submit:
        for _ in range(3):
            submit(meeting.wait, timeout=5)


@pytest.mark.parametrize("number", [0, 7])
def test_the_first_error_comes_back_to_the_caller(number: int) -> None:
    def job(index: int) -> None:
        if index >= number:
            raise ValueError(f"job {index}")

    with pytest.raises(ValueError, match=f"job {number}"), trailing(threads=2, limit=2) as submit:
        for index in range(20):
            submit(job, index)


def test_an_error_of_the_caller_drops_what_has_not_started() -> None:
    started: list[int] = []
    gate = threading.Event()

    def job(index: int) -> None:
        started.append(index)
        gate.wait(5)

    with pytest.raises(KeyboardInterrupt), trailing(threads=1, limit=5) as submit:
        for index in range(4):
            submit(job, index)
        threading.Timer(0.1, gate.set).start()
        raise KeyboardInterrupt
    assert len(started) <= 1
