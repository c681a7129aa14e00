from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import components.train_classifier.contrastive as contrastive
from common.classifier.model import Classifier, with_fresh_head
from common.config.base import OptimConfig
from common.config.train_classifier import ContrastiveConfig
from common.storage import open_store
from common.storage.checkpoints import Checkpoints
from components.train_classifier.contrastive import contrastive_loss, draw_views, train_body
from components.train_classifier.training import Examples

NONE = np.array([], dtype=np.int64)
OPTIM = OptimConfig(steps=30, batch_size=12, learning_rate=3e-3, record_every=5)
CONFIG = ContrastiveConfig(optim=OPTIM, hidden_size=32, dimensions=8)


def together(labels: list[int]) -> torch.Tensor:
    ids = torch.tensor(labels)
    return ids[:, None] == ids[None]


def test_the_loss_equals_its_closed_form() -> None:
    """Two pairs on the axes of a plane: each example sees its like at cosine 1 and two others at cosine 0."""
    axes = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [0.0, 1.0]])
    temperature = 0.5
    expected = np.log(np.exp(1 / temperature) + 2) - 1 / temperature
    assert float(contrastive_loss(axes, together([0, 0, 1, 1]), temperature)) == pytest.approx(expected, abs=1e-6)


def test_the_loss_equals_the_sum_written_out() -> None:
    """Equation 2 of arXiv 2004.11362, example by example; one of them has no positive."""
    labels = [0, 0, 0, 1, 1, 2]
    z = torch.nn.functional.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), dim=1).double()
    terms = []
    for i in range(6):
        others = [a for a in range(6) if a != i]
        total = sum(float(torch.exp(z[i] @ z[a] / 0.1)) for a in others)
        like = [p for p in others if labels[p] == labels[i]]
        if like:
            terms.append(-np.mean([np.log(float(torch.exp(z[i] @ z[p] / 0.1)) / total) for p in like]))
    assert float(contrastive_loss(z, together(labels), 0.1)) == pytest.approx(np.mean(terms), abs=1e-4)


def test_a_batch_without_positives_has_no_loss_and_a_finite_gradient() -> None:
    embeddings = torch.randn(3, 4, requires_grad=True)
    loss = contrastive_loss(embeddings, together([0, 1, 2]), 0.1)
    loss.backward()
    assert float(loss.detach()) == 0
    assert embeddings.grad is not None and torch.isfinite(embeddings.grad).all()


def test_views_of_a_clip_are_itself_and_what_was_made_from_it() -> None:
    labels, sources = np.array([0, 0, 0, 0, 1]), np.array([0, 0, 4, 1])
    seen = set()
    for step in range(40):
        chosen = draw_views(labels, sources, 4, 3, seed=1, step=step)
        assert chosen.shape == (4, 3)
        assert np.bincount(labels[chosen[:, 0]]).tolist() == [2, 2]
        for gold, *others in chosen.tolist():
            own = {5 + place for place in np.flatnonzero(sources == gold)} or {gold}
            assert set(others) <= own
            seen |= set(others)
    assert seen == {2, 3, 5, 6, 7, 8}
    np.testing.assert_array_equal(chosen, draw_views(labels, sources, 4, 3, seed=1, step=39))


def examples(classes: int = 3) -> Examples:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), 4)
    features = []
    for label in labels:
        clip = rng.standard_normal((48, 32))
        clip[:, 10 * label : 10 * label + 8] += 1.5
        features.append([torch.from_numpy(clip.astype(np.float32))])
    return Examples(features, labels)


def body(classifier: Classifier) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in classifier.model.state_dict().items() if not k.startswith("classifier")}


def spread(classifier: Classifier, data: Examples) -> float:
    """Mean cosine of clips of equal labels less that of others, about the mean of all."""
    with torch.inference_mode():
        made = contrastive._embed(classifier, torch.stack([variants[0] for variants in data.features]))
    unit = torch.nn.functional.normalize(made - made.mean(dim=0), dim=1).numpy()
    same = data.labels[:, None] == data.labels[None]
    return float((unit @ unit.T)[same].mean() - (unit @ unit.T)[~same].mean())


def test_training_brings_clips_of_one_label_together_and_leaves_the_head(classifier: Classifier) -> None:
    data, fresh = examples(), with_fresh_head(classifier, ["a", "b", "c"], seed=1)
    head, before = fresh.model.classifier.dense.weight.clone(), spread(fresh, data)
    longer = CONFIG.model_copy(update={"optim": OPTIM.model_copy(update={"steps": 120})})
    curve = train_body(fresh, data, 12, NONE, longer, seed=1)
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert spread(fresh, data) > before + 0.1
    assert torch.equal(head, fresh.model.classifier.dense.weight)


@pytest.mark.e2e
def test_a_killed_contrastive_training_goes_on_to_the_same_weights(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = examples()

    def once(**options: Any) -> dict[str, torch.Tensor]:
        fresh = with_fresh_head(classifier, ["a", "b", "c"], seed=1)
        often = CONFIG.model_copy(update={"optim": OPTIM.model_copy(update={"checkpoint_every_s": 1e-9})})
        train_body(fresh, data, 12, NONE, often, seed=1, **options)
        return body(fresh)

    whole = once()
    real, calls = contrastive.contrastive_loss, 0

    def dies(*arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 17:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(contrastive, "contrastive_loss", dies)
    with pytest.raises(KeyboardInterrupt):
        once(checkpoints=Checkpoints(open_store(tmp_path)))
    resumed = once(checkpoints=Checkpoints(open_store(tmp_path)))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_settings_that_split_a_clips_views_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"batch_size \(12\) must be a multiple of views \(5\)"):
        ContrastiveConfig(optim=OPTIM, views=5)
