from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit

from common.clap.scorer import ClapScorer
from common.errors import DataError
from common.learners.cache import CacheHead, fit_cache, label_texts
from common.learners.front_ends import CLAP, Clap
from common.learners.model import LearnerModel, head_logits, hears_through, load_learner
from common.records.text import label_prompts, template_caption
from tests.kit.models import write_clap
from tests.kit.sounds import CLAP_RATE, CLAP_SOUNDS, clap_sound

SCALE = 20.0


def unit(count: int, width: int = 12, seed: int = 0) -> NDArray[np.float64]:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def logits(head: CacheHead, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return head_logits(head, list(rows.astype(np.float32)))


CLIPS, TEXTS = unit(9), unit(3, seed=1)
ONE = np.eye(3)[np.arange(9) % 3]
ONES = np.ones(9)


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clap(tmp_path_factory.mktemp("clap"))


def test_without_a_say_of_the_clips_the_head_is_zero_shot() -> None:
    heard = unit(5, seed=2)
    head = fit_cache(CLIPS, ONE, ONES, TEXTS, SCALE, 0.0, 5.0, False)
    assert logits(head, heard) == pytest.approx(SCALE * heard @ TEXTS.T, abs=1e-4)


def test_with_the_clips_alone_the_nearest_one_decides_whatever_the_texts_say() -> None:
    heard = CLIPS + 0.05 * np.random.default_rng(3).normal(size=CLIPS.shape)
    heard /= np.linalg.norm(heard, axis=1, keepdims=True)
    head = fit_cache(CLIPS, ONE, ONES, -TEXTS, SCALE, 1.0, 50.0, False)
    assert (logits(head, heard).argmax(axis=1) == ONE.argmax(axis=1)).all()
    expected = SCALE * np.exp(50 * (heard @ CLIPS.T - 1)) @ ONE * 3 / 9
    assert logits(head, heard) == pytest.approx(expected, abs=1e-3)


def test_between_them_a_text_that_is_near_to_any_sound_has_no_advantage() -> None:
    # All clips lie near the first text.
    clips = unit(9, seed=4) + 3 * TEXTS[0]
    clips /= np.linalg.norm(clips, axis=1, keepdims=True)
    zero_shot = fit_cache(clips, ONE, ONES, TEXTS, SCALE, 0.0, 5.0, False)
    assert (logits(zero_shot, clips).argmax(axis=1) == 0).all()
    head = fit_cache(clips, ONE, ONES, TEXTS, SCALE, 0.5, 5.0, False)
    assert logits(head, clips) @ [1, -0.5, -0.5] == pytest.approx(0, abs=5)
    assert len(set(logits(head, clips).argmax(axis=1))) > 1


def test_a_label_without_clips_is_known_by_its_text() -> None:
    head = fit_cache(CLIPS[:2], ONE[:2], ONES[:2], TEXTS, SCALE, 0.5, 5.0, False)
    found = logits(head, np.concatenate([TEXTS[2:], CLIPS[:2]]))
    assert np.isfinite(found).all() and found[0].argmax() == 2 and (found[1:].argmax(axis=1) == [0, 1]).all()


def test_a_heavier_clip_counts_as_several() -> None:
    twice = np.concatenate([np.arange(9), [4]])
    for several in (False, True):
        heavy = fit_cache(CLIPS, ONE, np.where(np.arange(9) == 4, 2.0, 1.0), TEXTS, SCALE, 0.8, 5.0, several)
        many = fit_cache(CLIPS[twice], ONE[twice], np.ones(10), TEXTS, SCALE, 0.8, 5.0, several)
        assert logits(heavy, unit(4, seed=5)) == pytest.approx(logits(many, unit(4, seed=5)), abs=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_independent_labels_are_each_weighed_against_the_clips_without_them(share: float) -> None:
    targets = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]] * 4, dtype=float)
    clips = targets @ TEXTS + unit(1, seed=8) + 0.02 * np.random.default_rng(6).normal(size=(16, 12))
    clips /= np.linalg.norm(clips, axis=1, keepdims=True)
    head = fit_cache(clips, targets, np.ones(16), TEXTS, SCALE, share, 5.0, True)
    shares = expit(logits(head, clips))
    assert ((shares > 0.5) == (targets > 0)).mean() > 0.9
    # No clip has the last label.
    assert (shares[:, 2] < 0.5).all() and np.isfinite(logits(head, clips)).all()


def test_clips_that_say_nothing_give_finite_logits() -> None:
    for several in (False, True):
        for targets in (np.eye(3)[[0, 0, 0, 0]], np.eye(3)[[0, 0, 1, 1]]):
            head = fit_cache(CLIPS[[0, 0, 0, 0]], targets, np.ones(4), TEXTS, SCALE, 0.5, 5.0, several)
            assert np.isfinite(logits(head, CLIPS)).all()


def test_one_clip_in_onnx_has_the_logits_of_the_batch(tmp_path: Path) -> None:
    head = fit_cache(CLIPS, ONE, ONES, TEXTS, SCALE, 0.5, 5.0, False)
    target = tmp_path / "head.onnx"
    torch.onnx.export(head, (torch.zeros(12),), str(target), input_names=["e"], dynamo=False)
    session = onnxruntime.InferenceSession(str(target))
    heard = unit(4, seed=7).astype(np.float32)
    single = np.stack([session.run(None, {"e": row})[0] for row in heard])
    assert single == pytest.approx(logits(head, heard), abs=1e-4)


def test_labels_are_put_in_several_words_of_which_the_template_is_the_first(clap: Path) -> None:
    scorer = ClapScorer.load(clap)
    told = label_texts(scorer, ["Low_Tone", "noise"])
    assert label_prompts("Low_Tone")[0] == template_caption("Low_Tone") and len(set(label_prompts("noise"))) >= 5
    assert all("low tone" in text for text in label_prompts("Low_Tone"))
    assert told.plain == pytest.approx(
        scorer.embed_text([template_caption(x) for x in ("low tone", "noise")]), abs=1e-6
    )
    mean = scorer.embed_text(label_prompts("noise")).mean(axis=0)
    assert told.several[1] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert told.scale == pytest.approx(float(scorer.model.logit_scale_a.detach().exp()))
    with pytest.raises(DataError, match="tokens"):
        label_texts(scorer, ["x" * 500])


def learner(clap: Path) -> LearnerModel:
    hears = Clap(clap)
    clips = [clap_sound(label, np.random.default_rng(index)) for index, label in enumerate(CLAP_SOUNDS * 3)]
    told = label_texts(hears.scorer, CLAP_SOUNDS)
    head = fit_cache(np.stack(hears(clips)), ONE, ONES, told.several, told.scale, 0.5, 5.0, False)
    return LearnerModel("few_shot_clap", CLAP, head, CLAP_SOUNDS, False, 1.5, hears)


def test_a_saved_learner_answers_as_before_whether_its_clap_lies_beside_it_or_features_are_given(
    clap: Path, tmp_path: Path
) -> None:
    made = learner(clap)
    made.save(tmp_path)
    assert hears_through(tmp_path) == CLAP and hears_through(clap) is None
    assert not list(tmp_path.glob("**/model*")), "it copies the CLAP"
    clips = [clap_sound(label, np.random.default_rng(9)) for label in CLAP_SOUNDS]
    expected = made.of_waveforms(clips)
    alone = load_learner(tmp_path)
    assert alone.of_features(Clap(clap)(clips)) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(DataError, match=r"hears through a pretrained model.*expected the folder clap/"):
        alone.of_waveforms(clips)
    write_clap(tmp_path / CLAP)
    whole = load_learner(tmp_path)
    assert whole.of_waveforms(clips) == pytest.approx(expected, abs=1e-5)
    assert whole.sample_rate_hz == CLAP_RATE


def test_the_level_of_a_clip_changes_nothing(clap: Path) -> None:
    made = learner(clap)
    clips = [clap_sound(label, np.random.default_rng(9)) for label in CLAP_SOUNDS]
    quiet = [np.float32(10 ** (-30 / 20)) * clip for clip in clips]
    assert made.of_waveforms(quiet) == pytest.approx(made.of_waveforms(clips), abs=1e-4)
    assert np.isfinite(made.of_waveforms([np.zeros(100, np.float32)])).all()


def test_a_damaged_clap_is_named(clap: Path, tmp_path: Path) -> None:
    write_clap(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(DataError, match=rf"no CLAP in {tmp_path}"):
        Clap(tmp_path)
