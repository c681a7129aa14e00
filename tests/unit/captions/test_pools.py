from __future__ import annotations

from common.captions.asking import Desk, extract_pools
from common.captions.grammar import GrammarWriter
from common.captions.pools import build_pools, draw, joined, parents, texts
from common.captions.records import Elements
from common.config.captions import CheckConfig, GrammarConfig
from tests.kit.clips import gold_clip


def clips(count: int = 20) -> list[tuple[str, str, Elements]]:
    return [
        ("ab"[n % 2], f"clip{n:02d}", Elements(events=(f"event {n % 7}", "shared"), scenes=(f"place {n}",)))
        for n in range(count)
    ]


def test_a_pool_does_not_depend_on_the_order_of_clips() -> None:
    assert build_pools(clips(), 0) == build_pools(clips()[::-1], 0)


def test_a_pool_spans_all_clips_of_its_label_and_no_other() -> None:
    pools = build_pools(clips(), 0)
    assert {e.text for e in pools["a"] if e.kind == "scenes"} == {f"place {n}" for n in range(0, 20, 2)}
    assert {e.text for e in pools["b"] if e.kind == "scenes"} == {f"place {n}" for n in range(1, 20, 2)}


def test_a_draw_is_the_share_rounded_up_and_depends_on_its_names_only() -> None:
    pool = build_pools(clips(), 0)["a"]
    drawn = draw(pool, 0.75, 3, "clip00", 0)
    assert len(drawn) == -(-3 * len(pool) // 4)
    assert set(drawn) <= set(pool)
    assert draw(build_pools(clips()[::-1], 0)["a"], 0.75, 3, "clip00", 0) == drawn
    assert draw(pool, 0.75, 3, "clip02", 0) != drawn
    assert draw(pool, 0.75, 3, "clip00", 1) != drawn
    assert draw(pool, 0.75, 4, "clip00", 0) != drawn
    assert draw((), 0.75, 3) == ()


def test_over_many_draws_every_element_is_shown_equally_often() -> None:
    pool = build_pools(clips(), 0)["a"]
    shown = [element for n in range(400) for element in draw(pool, 0.75, 0, n)]
    share = len(draw(pool, 0.75, 0)) / len(pool)
    assert all(abs(shown.count(element) / 400 - share) < 0.1 for element in pool)


def test_a_phrase_that_several_clips_have_is_owned_by_one_of_them() -> None:
    owners = {next(e.clip_id for e in build_pools(clips(), seed)["a"] if e.text == "shared") for seed in range(20)}
    assert len(owners) > 1
    assert owners <= {f"clip{n:02d}" for n in range(0, 20, 2)}


def test_parents_are_the_source_and_the_owners_of_what_stands_in_the_caption() -> None:
    pool = build_pools(clips(), 0)["a"]
    caption = "a dog bark with event 3 and place 4"
    owners = {e.clip_id for e in pool if e.text in ("event 3", "place 4")}
    assert parents(caption, pool, "clip99") == ("clip99", *sorted(owners))
    assert parents("a dog bark", pool, "clip99") == ("clip99",)
    assert parents("a dog bark with event 34", pool, "clip99") == ("clip99",)


def test_texts_of_a_pool_keep_their_kind() -> None:
    found = texts(build_pools(clips(2), 0)["a"])
    assert found == Elements(events=("event 0", "shared"), scenes=("place 0",))


def test_pools_extracted_in_any_order_are_equal_and_those_of_parts_hold_the_same_phrases() -> None:
    rows = [
        ("ab"[n % 2], gold_clip(f"clip{n:02d}", "Dog_Bark" if n % 4 else "dog bark"), f"a loud dog bark {n} in rain")
        for n in range(12)
    ]
    writer = GrammarWriter(GrammarConfig(), CheckConfig())
    desk = Desk(writer, writer, CheckConfig())

    whole, tally = extract_pools(desk, rows, 0)
    assert whole["a"] and whole["b"] and tally.pieces == 12
    assert extract_pools(desk, rows[::-1], 0)[0] == whole
    for size in (1, 5):
        parts = [extract_pools(desk, rows[start : start + size], 0)[0] for start in range(0, len(rows), size)]
        for label, pool in whole.items():
            held = {element for part in parts for element in part.get(label, ())}
            assert {(e.kind, e.text) for e in held} == {(e.kind, e.text) for e in pool}
            assert set(pool) <= held, "a phrase belongs to the clip that owns it in one of the parts"


def test_a_clip_of_several_labels_draws_from_all_their_pools() -> None:
    pools = build_pools(clips(), 0)
    both = joined(pools, ("b", "a"))
    assert {e.text for e in both} == {e.text for pool in pools.values() for e in pool}
    assert len({(e.kind, e.text) for e in both}) == len(both)
    assert both == joined({"a": pools["b"], "b": pools["a"]}, ("a", "b")) and joined(pools, ("a",)) == pools["a"]
    assert joined(pools, ("c",)) == ()
