from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from common.config.learners import LEARNERS
from common.errors import DataError
from common.pages import charts, numbers
from common.pages.spectrogram import png, spectrogram
from common.pages.times import duration, insert_run_section
from components.report.budget import factor_rows, strength_rows
from components.report.players import Carrier, choose, make_player
from components.report.sections import best_tiles, confusions, learner_rows
from tests.unit.report.artifacts import RECIPE, synthetic_clips, tone

PAGE = '<main><section id="run"><h2>Time</h2><p>later</p></section><section id="x">kept</section></main>'
RUN = {
    "stages": [
        {"name": "prepare-corpus", "seconds": 45.2, "cached": False, "state": "succeeded"},
        {"name": "<b>odd</b>", "seconds": 0.0, "cached": True, "state": "succeeded"},
    ],
    "wall_seconds": 412.3,
    "outside_models_share": 0.214,
    "machine": {"cpu": "2 x <fast>"},
}


def test_inserting_times_twice_equals_inserting_them_once() -> None:
    once = insert_run_section(PAGE, RUN)
    assert insert_run_section(once, RUN) == once
    assert once.endswith('<section id="x">kept</section></main>')
    assert "later" not in once and "6 min 52 s" in once and "21.4 %" in once and "from the cache" in once


def test_a_second_runs_times_replace_the_first_ones() -> None:
    again = insert_run_section(insert_run_section(PAGE, RUN), {**RUN, "wall_seconds": 7.0})
    assert "7.0 s" in again and "6 min 52 s" not in again


def test_names_in_the_times_are_escaped() -> None:
    page = insert_run_section(PAGE, RUN)
    assert "&lt;b&gt;odd" in page and "<b>odd" not in page and "<fast>" not in page


def test_a_page_without_the_section_is_an_error() -> None:
    with pytest.raises(DataError, match="section"):
        insert_run_section("<main></main>", RUN)


@pytest.mark.parametrize(("seconds", "text"), [(3.21, "3.2 s"), (245, "4 min 05 s"), (7810, "2 h 10 min")])
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0.4128, "41.3 %"), (0.0, "0.0 %"), (1.0, "100.0 %"), (-0.00001, "0.0 %")])
def test_shares_have_one_decimal(value: float, text: str) -> None:
    assert numbers.percent(value) == text


def test_differences_have_a_sign_and_a_real_minus() -> None:
    assert numbers.points(0.0719) == "+7.2"
    assert numbers.points(-0.0719) == "−7.2"
    assert numbers.points(-0.0001) == "+0.0"


def test_the_png_decodes_to_the_shades_that_went_in() -> None:
    shades = np.arange(60, dtype=np.uint8).reshape(5, 12)
    picture = Image.open(io.BytesIO(png(shades)))
    assert picture.format == "PNG" and picture.mode == "P" and (np.asarray(picture) == shades).all()
    assert png(shades) == png(shades.copy())


def test_a_higher_tone_stands_higher_in_the_spectrogram() -> None:
    t = np.arange(16000) / 16000
    tones = [np.sin(2 * np.pi * frequency_hz * t).astype(np.float32) for frequency_hz in (300, 3000)]
    low, high = (int(spectrogram(tone, 16000).mean(axis=1).argmax()) for tone in tones)
    assert high < low


def test_silent_and_one_sample_clips_have_a_spectrogram() -> None:
    assert not spectrogram(np.zeros(500, np.float32), 8000).any()
    assert spectrogram(np.ones(1, np.float32), 8000).shape[1] == 1


def test_a_player_carries_the_clips_sound() -> None:
    player = make_player(tone(3), 16000, max_s=10)
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(player.audio.split(",")[1])))
    assert rate == 16000 and not player.cut
    assert np.abs(heard - tone(3)).max() < 1e-4
    assert player == make_player(tone(3), 16000, max_s=10)


def test_long_clips_are_cut_in_the_player_and_said_to_be() -> None:
    player = make_player(tone(3), 16000, max_s=0.1)
    assert player.cut and player.duration_s == pytest.approx(0.6)


def test_a_full_page_takes_no_more_players() -> None:
    size = make_player(tone(0), 16000, 10).size
    carrier = Carrier(budget=round(2.5 * size), max_s=10)
    made = [carrier.carry(name, lambda: (tone(0), 16000)) for name in ("a", "b", "a")]
    assert made[0] is not None and made[1] is not None and made[2] is None


def test_players_are_drawn_alike_for_every_class_and_not_by_score() -> None:
    clips = synthetic_clips(RECIPE, accepted=True)
    chosen = choose(clips, RECIPE, per_class=2, total=100)
    assert {label: sum(c.label == label for c in chosen) for label in {c.label for c in clips}} == dict.fromkeys(
        {c.label for c in clips}, 2
    )
    better = [clip.model_copy(update={"clap_score": 1.0 - (clip.clap_score or 0)}) for clip in reversed(clips)]
    assert [c.clip_id for c in choose(better, RECIPE, 2, 100)] == [c.clip_id for c in chosen]
    assert len(choose(clips, RECIPE, 2, 5)) == 5
    assert choose(clips, "another", 2, 5) == []


def test_confusion_matrices_of_many_classes_show_shades_only() -> None:
    labels = [f"class {index}" for index in range(40)]
    matrix = (5 * np.eye(40, dtype=int) + np.eye(40, k=1, dtype=int)).tolist()
    methods = {"gold": {"title": "Gold", "confusion": matrix}}
    evaluation = {"labels": labels, "selected": {"method": "gold"}, "methods": methods}
    table = confusions(evaluation)[0]
    assert not table["numbered"]
    assert (table["worst"][0]["true"], table["worst"][0]["heard"]) == ("class 0", "class 1")
    assert table["rows"][0][1]["share"] == pytest.approx(1 / 6)


def test_all_values_of_a_histogram_are_drawn() -> None:
    chart = str(charts.histogram([0.1, 0.9, 1.0], [0.0], [0.5], (0.0, 1.0), "score", "All", bins=10))
    assert chart.count('class="gain"') == 2 and chart.count('class="loss"') == 1 and chart.count('class="mark"') == 1


def test_charts_say_their_data_in_words_and_escape_names() -> None:
    chart = str(charts.curves([("<b>", [1.0, 2.0], [0.5, 0.25])], "Loss"))
    assert 'aria-label="Loss: &lt;b&gt; from 0.5 to 0.25"' in chart


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3], [-1.0, 2.0]])
def test_a_span_holds_all_values_with_room(values: list[float]) -> None:
    low, high = charts.span(values)
    assert low <= min(values) and max(values) <= high and high - low >= 0.2 - 1e-9


def test_factors_and_strengths_that_validation_tried_are_listed_apart() -> None:
    def tried(factor: int, strength: float, accuracy: float) -> dict[str, float]:
        return {"factor": factor, "strength": strength, "val_accuracy": accuracy}

    entries = [tried(factor, strength, factor / 10 + strength) for strength in (0.1, 0.2) for factor in (1, 2, 4)]
    selection = {"synthio/0": {"factor": 4, "strength": 0.2, "tried": entries}, "gold/0": {"tried": [{}]}}
    methods = {name: {"seeds": [0], "title": name} for name in ("gold", "synthio")}
    results = {"methods": methods, "selected": {"by": "accuracy"}}
    (factors,) = factor_rows({"synthio/0": selection["synthio/0"]}, results)
    assert [(entry["factor"], entry["chosen"]) for entry in factors["curve"]] == [(1, False), (2, False), (4, True)]
    (strengths,) = strength_rows(selection, results)
    assert [(entry["strength"], entry["chosen"]) for entry in strengths["tried"]] == [(0.1, False), (0.2, True)]


def test_learners_stand_in_the_catalogues_order_with_what_they_cost_and_the_best_come_first() -> None:
    score = {"mean": 0.8, "low": 0.7, "high": 0.9}
    side = {"learner": "stats", "method": "gold", "accuracy": score}
    results = {
        "figure": "accuracy",
        "methods": {"gold": {"title": "Gold only"}},
        "learners": {name: {"gold": {"accuracy": score}} for name in ("stats", "ast", "blend")},
        "best": {"without": side, "with": None},
    }
    rows = learner_rows(results, {"ast": {"gold": 9.0, "noise": 3.0}, "stats": {"gold": 0.5}})
    assert rows is not None
    assert rows["titles"] == [LEARNERS[name].title for name in ("ast", "stats", "blend")]
    assert rows["seconds"] == [6.0, 0.5, None]
    assert [cell["chosen"] for cell in rows["rows"][0]["cells"]] == [False, True, False]
    (tile,) = best_tiles(results)
    assert tile["title"] == "Best without synthetic audio" and tile["what"].endswith("statistics; Gold only")
    assert best_tiles({**results, "learners": {"ast": {}}}) == []
