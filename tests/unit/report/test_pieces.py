from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from common.audio.mel import png, spectrogram
from common.config.learners import LEARNERS
from common.contracts.base import write
from common.contracts.evaluation import Evaluation
from common.contracts.report import Report
from common.contracts.training import Selection
from common.pages import charts, numbers
from common.storage import read_json, write_json
from components.report.effects import tried_rows
from components.report.page import page_of
from components.report.run import run
from components.report.sections import best_tiles, learner_rows
from components.report.shown import Carrier, choose, make_player
from tests.kit.figures import chosen
from tests.unit.report.artifacts import (
    PATHS,
    RECIPE,
    make_evaluation,
    make_plan,
    make_run,
    synthetic_clips,
    tone,
    write_folder,
)


@pytest.mark.parametrize(("seconds", "text"), [(3.21, "3.2 s"), (245, "4 min 05 s"), (7810, "2 h 10 min")])
def test_durations_in_words(seconds: float, text: str) -> None:
    assert numbers.duration(seconds) == text


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


def test_a_full_page_takes_no_more_players(tmp_path: Path) -> None:
    clips = synthetic_clips(RECIPE, accepted=True)[:2]
    write_folder(tmp_path, clips)
    size = make_player(tone(0), 16000, 10).size
    carrier = Carrier(budget=round(2.5 * size), max_s=10)
    made = [carrier.carry(clips[place], tmp_path) for place in (0, 1, 0)]
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


def test_all_values_of_a_histogram_are_drawn() -> None:
    chart = str(charts.histogram([0.1, 0.9, 1.0], [0.0], [0.5], (0.0, 1.0), "score", "All", bins=10))
    assert chart.count('class="gain"') == 2 and chart.count('class="loss"') == 1 and chart.count('class="mark"') == 1


def test_charts_say_their_data_in_words_and_escape_names() -> None:
    chart = str(charts.curves([charts.Line("<b>", [1.0, 2.0], [0.5, 0.25])], "Loss"))
    assert 'aria-label="Loss: &lt;b&gt; from 0.5 to 0.25"' in chart


def test_a_chart_places_points_intervals_and_ticks_on_a_logarithmic_axis() -> None:
    line = charts.Line("Gold", [10, 100, 1000], [1.0, 2.0, 3.0], [(0.5, 1.5), (2.0, 2.0), (3.0, 4.0)])
    ticks = {n: str(n) for n in line.xs}
    chart = str(charts.curves([line], "Scores", "clips", "percent", ticks=ticks, log=True, dots="all"))
    ends, middle = (charts.WIDTH - 54) / 2, 46 + (charts.WIDTH - 54) / 2
    assert f'<circle class="point line0" cx="{middle:.1f}"' in chart and ends > 0
    assert chart.count('class="within line0"') == 3 and chart.count("<circle") == 3
    assert "<title>Gold, 1000: 3</title>" in chart and ">4</text>" in chart and ">percent</text>" in chart
    assert str(charts.legend([line], values=True)).endswith("Gold from 1 to 3</li></ul>")


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3], [-1.0, 2.0]])
def test_a_span_holds_all_values_with_room(values: list[float]) -> None:
    low, high = charts.span(values)
    assert low <= min(values) and max(values) <= high and high - low >= 0.2 - 1e-9


def test_factors_and_strengths_that_validation_tried_are_listed_apart() -> None:
    def tried(factor: int, strength: float, accuracy: float) -> dict[str, Any]:
        return {"classic": "noise", "factor": factor, "strength": strength, "val_accuracy": accuracy}

    entries = [tried(factor, strength, factor / 10 + strength) for strength in (0.1, 0.2) for factor in (1, 2, 4)]
    trained = {"synthio/0": chosen(factor=4, strength=0.2, tried=entries), "gold/0": chosen(tried=entries[:1])}
    selection = Selection.model_validate({"select_by": "accuracy", "best_classic": {}, **trained})
    evaluation = Evaluation.model_validate(
        make_evaluation({"gold": 0.0, "synthio": 1.0}, replicates=(0,), resamples=200)
    )
    (factors,) = tried_rows(selection, evaluation, "factor")
    assert [(entry.value, entry.chosen) for entry in factors.tried] == [(1, False), (2, False), (4, True)]
    (strengths,) = tried_rows(selection, evaluation, "strength")
    assert [(entry.value, entry.chosen) for entry in strengths.tried] == [(0.1, False), (0.2, True)]


def test_learners_stand_in_the_catalogues_order_with_what_they_cost_and_the_best_come_first(tmp_path: Path) -> None:
    paths = make_run(tmp_path / "run")
    run({name: str(paths[name]) for name in PATHS}, *(str(tmp_path / name) for name in "rhmcf"), config=make_plan())
    score = {"mean": 0.8, "low": 0.7, "high": 0.9, "per_seed": [0.8]}
    side = {"learner": "stats", "method": "gold", "accuracy": score, "chosen": {}}
    changes = {
        "learners": {name: {"gold": {"accuracy": score, "seeds": [0]}} for name in ("stats", "ast", "blend")},
        "best": {"without": side, "with": None, "difference": None},
    }
    results = Report.model_validate({**read_json(tmp_path / "r" / "report.json"), **changes})
    assert [cell and cell[1] for cell in learner_rows(results)["gold"]] == [False, True, False]
    ((title, _, what),) = best_tiles(results)
    assert title == "Best without synthetic audio" and what.endswith("statistics; Gold only")
    assert best_tiles(results.model_copy(update={"learners": {"ast": {}}})) == []
    write(tmp_path / "r" / "report.json", results)
    seconds = {"ast": {"gold": 9.0, "noise": 3.0}, "stats": {"gold": 0.5}}
    write_json(tmp_path / "r" / "page.json", {**read_json(tmp_path / "r" / "page.json"), "seconds": seconds})
    page = page_of(tmp_path / "r")
    table = page[page.index("<h3>Learners</h3>") : page.index("SpecAugment masks spectrograms")]
    places = [table.index(LEARNERS[name].title) for name in ("ast", "stats", "blend")]
    assert places == sorted(places)
    costs = table[table.index("Seconds of a training") :]
    assert re.findall(r'class="(?:num|soft)">([^<]+)<', costs) == ["6", "0.5", "–"]
