from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.config.methods import METHODS
from common.contracts.base import read, write
from common.contracts.report import Report
from common.records.clips import SyntheticClip, write_records
from common.storage import read_json, write_json
from components.report.page import page_of
from components.report.run import run
from components.report.sections import axis, confusions
from components.report.shown import Shown
from tests.unit.report.artifacts import (
    HOSTILE,
    LABELS,
    PATHS,
    RECIPE,
    make_evaluation,
    make_plan,
    make_run,
    make_writing,
    synthetic_clips,
    write_folder,
)

OUTPUTS = ("results", "page.html", "summary.md", "confusion.json", "metrics.json")


class Page(HTMLParser):
    """Tags, ids and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "br", "link", "input", "hr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"


def make(paths: dict[str, Path], out: Path, **changes: Any) -> tuple[dict[str, Any], list[str], list[list[int]]]:
    return run(
        {name: str(paths[name]) for name in PATHS}, *(str(out / name) for name in OUTPUTS), config=make_plan(**changes)
    )


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def made(paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    make(paths, out)
    return out


@pytest.fixture
def page(made: Path) -> str:
    return (made / "results" / "report.html").read_text(encoding="utf-8")


def test_report_json_has_every_field_of_the_interface(made: Path) -> None:
    report = read_json(made / "results" / "report.json")
    assert {"improved", "beats_classic", "text"} <= report["verdict"].keys()
    for row in report["methods"].values():
        assert {"mean", "low", "high", "per_seed"} <= row["accuracy"].keys() and len(row["accuracy"]["per_seed"]) == 3
        assert {"mean", "low", "high", "per_seed"} <= row["macro_f1"].keys()
    assert all({"method", "versus", "mean", "low", "high"} <= row.keys() for row in report["differences"])
    assert all({"accepted", "rejected"} <= row.keys() for row in report["rounds"])
    assert {key: report["data"][key] for key in ("n_train", "n_val", "n_test", "dropped")} == {
        "n_train": 12,
        "n_val": 6,
        "n_test": 120,
        "dropped": 2,
    }
    assert report["failures"] == []


def test_the_same_inputs_give_the_same_bytes(paths: dict[str, Path], made: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(paths["gold"].parent, moved)
    make({name: moved / name for name in PATHS}, tmp_path / "out")
    for name in ("results/report.json", "results/report.html", "page.html", "summary.md", "confusion.json"):
        assert (tmp_path / "out" / name).read_bytes() == (made / name).read_bytes()


def test_the_page_needs_nothing_from_outside_and_runs_no_script(page: str, paths: dict[str, Path]) -> None:
    found = Page(page)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(found.tags)
    for _, name, value in found.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "poster", "data", "action"):
            assert value.startswith(("data:image/png;base64,", "data:audio/flac;base64,", "#"))
    # The settings may name a server; they are text.
    assert not re.search(r"https?://|url\((?!#)|@import", re.sub(r"<code>.*?</code>", "", page, flags=re.DOTALL))
    assert str(paths["gold"].parent) not in page


def test_captions_labels_sources_and_warnings_are_escaped(page: str) -> None:
    assert "<script" not in page and "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in page
    assert "<b>rain" not in page and "&lt;b&gt;rain&lt;/b&gt;" in page
    assert "<i>.wav" not in page
    assert "猫" in page and "siren é" in page


def test_copies_of_gold_clips_in_the_corpus_are_told(page: str) -> None:
    assert (
        "<b>2 recordings of the corpus</b> are copies of training or validation clips (1 of validation clips)" in page
    )
    assert "<code>000000004</code> and <code>&lt;i&gt;copy.wav</code> (validation, correlation 0.99" in page


def test_a_label_without_spaces_is_broken_and_one_from_right_to_left_moves_no_number(page: str) -> None:
    """Otherwise a long label widens the page beyond the window, and `כלב 2 accepted` is shown with the 2 before it."""
    broken = re.search(r"\n([^{}]+) { overflow-wrap: anywhere; }", page)
    assert broken and {"p", "li", "summary", "figcaption", "blockquote"} <= set(broken[1].split(", "))
    summaries = re.findall(r'<details class="group"[^>]*><summary>(.*?) <span', page)
    heard = re.findall(r"(?:mistakes: |; )(\S[^;]*) heard as (.*?) \(", page)
    for text in [*summaries, *(label for pair in heard for label in pair)]:
        assert re.fullmatch(r"<bdi>[^<]+</bdi>", text)
    assert summaries and heard


def test_labels_from_right_to_left_are_isolated_where_a_text_holds_no_elements(page: str) -> None:
    found = [value for name in ("title", "aria-label", "alt") for value in re.findall(rf' {name}="([^"]*)"', page)]
    told = [text for text in found if "כלב" in text and text != "כלב"]
    assert {"heard as", "clip for", "Synthetic", "Real", "accepted,"} == {
        word for word in ("heard as", "clip for", "Synthetic", "Real", "accepted,") if any(word in t for t in told)
    }
    assert all(text.count("\u2068כלב\u2069") == text.count("כלב") for text in told)
    assert "\u2068siren" not in page


def test_every_element_is_closed_every_id_is_single_and_every_link_has_a_target(page: str) -> None:
    found = Page(page)
    assert found.open == []
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for _, name, value in found.attributes if name == "href"} <= set(ids)


def test_charts_pictures_and_players_have_names(page: str) -> None:
    assert page.count("<img ") == page.count('<img alt="Spectrogram: ')
    assert page.count("<audio ") == len(re.findall(r'<audio controls [^>]*aria-label="[^"]+"', page)) == 48
    for svg in re.findall(r"<svg [^>]*>", page):
        assert 'aria-hidden="true"' in svg or re.search(r'role="img" aria-label="[^"]+"', svg)


def test_the_sections_stand_in_order(page: str) -> None:
    names = [
        "methods",
        "classes",
        "listen",
        "quality",
        "alignment",
        "budget",
        "data",
        "run",
        "provenance",
        "reading",
        "limits",
    ]
    places = [page.index(f'<section id="{name}"') for name in names]
    assert places == sorted(places)
    assert page.index('class="verdict') < places[0]


RUN = {
    "stages": [
        {"name": "prepare-corpus", "seconds": 45.2, "cached": False, "state": "succeeded"},
        {"name": "<b>odd</b>", "seconds": 0.0, "cached": True, "state": "succeeded"},
    ],
    "wall_seconds": 412.3,
    "outside_models_share": 0.214,
    "machine": {"cpu": "2 x <fast>", "cores": 2},
}


def test_the_page_is_drawn_again_with_the_times_of_the_run(made: Path, page: str) -> None:
    timed = page_of(made / "results", RUN)
    assert Page(timed).open == [] and page_of(made / "results") == page
    assert "Known when the run has ended" in page and "Known when the run has ended" not in timed
    section = timed[timed.index('<section id="run"') : timed.index('<section id="provenance"')]
    assert "6 min 52 s" in section and "21.4 %" in section and "from the cache" in section
    assert "&lt;b&gt;odd" in section and "<b>odd" not in section and "2 x &lt;fast&gt;, 2 cores" in section
    assert "Time for each point gained" in section
    before, after = (text[: text.index('<section id="run"')] for text in (page, timed))
    assert before == after


def test_confusion_matrices_of_many_classes_show_shades_only(made: Path, tmp_path: Path) -> None:
    shown = read(Shown, made / "results" / "page.json")
    matrix = (5 * np.eye(40, dtype=int) + np.eye(40, k=1, dtype=int)).tolist()
    labels = [f"class {index}" for index in range(40)]
    many = shown.model_copy(update={"labels": labels, "confusions": {"gold": matrix}})
    (table,) = confusions(read(Report, made / "results" / "report.json"), many)
    assert not table["numbered"]
    assert table["worst"][0] == (pytest.approx(1 / 6), "class 0", "class 1")
    assert table["rows"][0][1] == (1, pytest.approx(1 / 6))
    shutil.copytree(made / "results", tmp_path / "results")
    write(tmp_path / "results" / "page.json", many)
    page = page_of(tmp_path / "results")
    # Who cannot see the shades hears percents too, as the sentence above the matrix says.
    assert 'class 0 heard as class 1: 1 times, 16.7\u202f%"><span class="hidden">17</span>' in page
    assert "in percent of the row, over all replicates: the darker, the more." in page


def test_no_date_no_time_and_no_machine_is_in_the_results(made: Path) -> None:
    text = (made / "results" / "report.json").read_text(encoding="utf-8")
    assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d|/tmp/|/home/|/root/", text)


def test_kfp_gets_html_markdown_and_the_matrix_of_the_delivered_classifier(
    paths: dict[str, Path], made: Path, tmp_path: Path
) -> None:
    figures, labels, matrix = make(paths, tmp_path)
    assert labels == LABELS and sum(map(sum, matrix)) == 120
    assert read_json(made / "confusion.json") == {"labels": labels, "matrix": matrix}
    assert figures == read_json(tmp_path / "metrics.json") and figures["verdict"] == "improved"
    lines = (made / "summary.md").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("**For this gold set: Synthio raised accuracy") and 10 <= len(lines) <= 16
    assert (made / "page.html").read_bytes() == (made / "results" / "report.html").read_bytes()


def test_a_page_full_of_long_audio_stays_below_25_megabytes(paths: dict[str, Path], made: Path, tmp_path: Path) -> None:
    make(paths, tmp_path, settings={"max_audio_mb": 0.1})
    small = (tmp_path / "results" / "report.html").read_text(encoding="utf-8")
    full = (made / "results" / "report.html").read_text(encoding="utf-8")
    assert 0 < small.count("<audio ") < full.count("<audio ")
    assert "further examples would have made this file too large" in small
    assert len(full.encode()) < 25e6


def test_clips_are_heard_beside_the_real_clip_nearest_to_them(page: str) -> None:
    card = page[page.index('<article class="card accepted"') :]
    card = card[: card.index("</article>")]
    assert card.count("<audio ") == 2 and "Nearest real clip" in card and "CLAP score" in card
    rejected = page[page.index('<article class="card rejected"') :]
    assert "Because: not clearly its label" in rejected[: rejected.index("</article>")]


def test_which_state_of_each_alignment_was_kept_is_told_and_how_it_came_about(page: str) -> None:
    section = " ".join(page[page.index('<section id="alignment"') : page.index('<section id="budget"')].split())
    assert "the one with the smallest distance in mean spectrum was kept: replicate 0 alignment did not help" in section
    assert "replicate 1 step 100 (ended early, error on validation clips rose)" in section
    assert "Error on validation clips: replicate 0 from 0.964 to 0.949" in section
    assert "Distance to gold, dB: replicate 0 from 14.2 to 7.95" in section
    assert '<th scope="row">error on validation clips</th>' in section


def test_how_captions_were_written_is_shown_with_tokens_and_money(made: Path, page: str) -> None:
    written = read_json(made / "results" / "report.json")["writing"]
    assert (written["pieces"], written["repaired"], written["replaced"]) == (80, 6, 1)
    assert (written["input_tokens"], written["output_tokens"]) == (8000, 1600)
    assert written["cost"] == pytest.approx(0.08)
    assert [row["prompts"] for row in written["rounds"]] == [36, 36]
    section = page[page.index("How the captions were written") :]
    section = section[: section.index("How varied the captions")]
    assert "8000 tokens in and 1600 out, 0.08 in money" in section
    assert "http 429 2; without the exact label 1" in section
    for name in ("MixCap", "template", "from the label alone"):
        assert f'<th scope="row">{name}' in section
    assert section.index('scope="row">MixCap') < section.index("for comparison")
    assert "Self-BLEU" in section and "By class: MixCap" in section and "&lt;b&gt;rain&lt;/b&gt;" in section


def test_a_rerun_that_paid_nothing_tells_the_same_of_its_captions(
    paths: dict[str, Path], made: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "rerun"
    shutil.copytree(paths["gold"].parent, moved)
    account = read_json(moved / "prompts" / "captions.json")
    for row in account["rounds"]:
        usage = row["how"]["usage"]
        usage |= {"requests": 0, "cached": 40, "paid": {"input_tokens": 0, "output_tokens": 0, "cost": 0.0}}
    write_json(moved / "prompts" / "captions.json", account)
    make({name: moved / name for name in PATHS}, tmp_path / "out")
    assert (tmp_path / "out" / "results" / "report.json").read_bytes() == (
        made / "results" / "report.json"
    ).read_bytes()


def test_how_near_clips_come_to_real_ones_is_shown(made: Path, page: str) -> None:
    row = read_json(made / "results" / "report.json")["likeness"][RECIPE]
    assert row["near_copies"] == 0 and row["median"] < row["highest"] < 0.9
    assert "How near they come to real clips" in page


def test_what_each_judge_rejected_is_told(page: str) -> None:
    section = page[page.index("What CLAP heard") :].replace("\u202f", " ")
    assert "9 by CLAP alone, 6 by the second judge alone" in section
    assert "it lets 90.0 % with right and 8.0 % with wrong labels pass" in section


def test_a_class_without_an_accepted_clip_is_a_caution_of_the_verdict(tmp_path: Path) -> None:
    paths = make_run(tmp_path / "run")
    account = read_json(paths["accepted"] / "filter.json")
    empty = [{"seed": replicate, "recipe": RECIPE, "label": "bell"} for replicate in (0, 2)]
    unused = {"seed": 0, "recipe": "none-plain-filtered", "label": "engine"}
    write_json(paths["accepted"] / "filter.json", {**account, "empty_classes": [*empty, unused]})
    make(paths, tmp_path / "out")
    report = read_json(tmp_path / "out" / "results" / "report.json")
    assert report["empty_classes"] == empty
    [caution] = [text for text in report["verdict"]["cautions"] if "no synthetic clip was accepted" in text]
    assert "bell (replicate 0, 2)" in caution and "real clips take their place" in caution
    assert caution in (tmp_path / "out" / "results" / "report.html").read_text(encoding="utf-8")


def test_failures_of_all_stages_are_told(tmp_path: Path) -> None:
    evaluation = make_evaluation()
    evaluation["failures"] = [{"method": "noise", "seed": 1, "error": "loss is NaN <&>"}]
    paths = make_run(tmp_path / "run", evaluation)
    align = read_json(paths["aligned"] / "align.json")
    write_json(paths["aligned"] / "align.json", {**align, "failures": {"1/dpo": "out of memory"}})
    make(paths, tmp_path / "out")
    report = read_json(tmp_path / "out" / "results" / "report.json")
    assert [row["method"] for row in report["failures"]] == ["noise", "alignment 1/dpo"]
    text = (tmp_path / "out" / "results" / "report.html").read_text(encoding="utf-8")
    assert "loss is NaN &lt;&amp;&gt;" in text and "1 training failed" in text


def test_a_run_of_gold_only_has_a_report_without_synthetic_clips(tmp_path: Path) -> None:
    paths = make_run(tmp_path / "run", {**make_evaluation({"gold": 0.0}), "oracle": None})
    for name in ("vanilla", "accepted", "rejected"):
        shutil.rmtree(paths[name] / "clips")
        write_records(paths[name] / "clips" / "metadata.jsonl", [])
    account: dict[str, Any] = {"rounds": [], "candidates": [], "thresholds": {}, "empty_classes": []}
    write_json(paths["accepted"] / "filter.json", account)
    write_json(paths["aligned"] / "align.json", {"failures": {}})
    # Neither text-to-audio model, nor fine-tuned CLAP, nor captions.
    shutil.rmtree(paths["t2a"])
    write_json(paths["t2a"] / "training.json", {"curve": []})
    write_records(paths["captions"] / "captions.jsonl", [])
    write_json(paths["prompts"] / "captions.json", make_writing() | {"sources": {}, "rounds": []})
    make(paths, tmp_path / "out", methods={"gold": METHODS["gold"].model_dump(mode="json")})
    report = read_json(tmp_path / "out" / "results" / "report.json")
    assert report["verdict"]["improved"] is None and report["differences"] == []
    text = (tmp_path / "out" / "results" / "report.html").read_text(encoding="utf-8")
    assert "SpectralCodec" not in text and "fixed transform" not in text
    assert "No verdict" in text and "no synthetic clips to listen to" in text and 'href="#alignment"' not in text


def test_a_run_of_vanilla_clips_only_lets_one_hear_them(tmp_path: Path) -> None:
    paths = make_run(tmp_path / "run", make_evaluation({"gold": 0.0, "vanilla": 0.2}))
    for name in ("accepted", "rejected"):
        write_records(paths[name] / "clips" / "metadata.jsonl", [])
    methods = {name: METHODS[name].model_dump(mode="json") for name in ("gold", "vanilla")}
    make(paths, tmp_path / "out", methods=methods)
    assert "<audio " in (tmp_path / "out" / "results" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("scores", "ends"), [([1.0], (0.8, 1.0)), ([0.93, 1.0], (0.8, 1.0)), ([0.4, 1.0], (0.4, 1.0))])
def test_the_axis_of_scores_ends_at_one(scores: list[float], ends: tuple[float, float]) -> None:
    rows = [SimpleNamespace(told=SimpleNamespace(score=SimpleNamespace(low=min(scores), high=max(scores))))]
    assert axis(rows) == pytest.approx(ends)  # type: ignore[arg-type]


def test_clips_that_no_filter_judged_are_heard_too(tmp_path: Path) -> None:
    paths = make_run(tmp_path / "run")
    recipe = METHODS["synthio_corpus"].recipe
    assert recipe is not None
    write_folder(paths["accepted"], synthetic_clips(recipe.name, accepted=True))
    write_records(paths["rejected"] / "clips" / "metadata.jsonl", [])
    methods = {name: METHODS[name].model_dump(mode="json") for name in ("gold", "corpus_label", "synthio_corpus")}
    make(paths, tmp_path / "out", methods=methods)
    text = (tmp_path / "out" / "results" / "report.html").read_text(encoding="utf-8")
    assert "<audio " in text and "no synthetic clips to listen to" not in text


def test_long_captions_are_shown_whole(tmp_path: Path) -> None:
    paths = make_run(tmp_path / "run")
    long = "a very long caption " * 40
    clips: list[SyntheticClip] = [
        clip.model_copy(update={"caption": long}) for clip in synthetic_clips(RECIPE, accepted=True)
    ]
    write_folder(paths["accepted"], clips)
    make(paths, tmp_path / "out", settings={"examples_per_class": 1})
    text = (tmp_path / "out" / "results" / "report.html").read_text(encoding="utf-8")
    assert long in text


def test_the_json_is_sorted_and_rounded(made: Path) -> None:
    text = (made / "results" / "report.json").read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert not re.search(r"\d\.\d{7,}", text)
    assert HOSTILE not in text
