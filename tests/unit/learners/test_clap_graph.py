"""ONNX Runtime gives the embeddings of a CLAP, however it fills short clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import ClapFeatureExtractor, ClapModel

from common.clap.scorer import ClapScorer
from common.clap.training import build_clap, build_extractor, clap_config, set_input_statistics, window_features
from common.corpus.vocabulary import build_vocabulary
from common.learners.front_ends import Clap
from common.learners.graph import ClapEmbedding
from tests.kit.models import CLAP_ARCHITECTURE
from tests.kit.sounds import CLAP_RATE, CLAP_SOUNDS, clap_sound

SHIFTED = CLAP_ARCHITECTURE.model_copy(update={"depths": (2, 1)})
"""Its second layer attends across the windows of the first, as those of published ones."""


def sounds() -> list[np.ndarray]:
    """Clips from a frame to 2.6 windows, the first of 1.3."""
    rng = np.random.default_rng(3)
    long = np.concatenate([clap_sound(label, rng) for label in (*CLAP_SOUNDS, "low tone")])[: round(2.6 * CLAP_RATE)]
    sizes = (round(1.3 * CLAP_RATE), len(long), CLAP_RATE, CLAP_RATE + 1, CLAP_RATE - 1, CLAP_RATE // 2, 3333, 400)
    levels = (1e-2, 1e-6, 0.0, 3.0)
    return [*(long[-size:] for size in sizes), *(long[:6000] * np.float32(level) for level in levels)]


def scorer(padding: str, fused: bool) -> ClapScorer:
    made = build_clap(SHIFTED, build_vocabulary(["noise"] * 3), seed=1)
    config = clap_config(SHIFTED, len(made.tokenizer))
    config.audio_config.enable_fusion = fused
    settings = {"padding": padding, "truncation": "fusion" if fused else "rand_trunc"}
    extractor = ClapFeatureExtractor(**{**build_extractor(SHIFTED).to_dict(), **settings})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        found = ClapScorer(ClapModel(config), made.tokenizer, extractor)
    set_input_statistics(found.model, window_features(found, sounds(), CLAP_RATE)[0])
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("padding", "fused"), [("repeatpad", False), ("repeat", False), ("pad", False), ("pad", True)])
def test_onnx_runtime_gives_the_embeddings_of_clips_of_any_length_and_level(
    tmp_path: Path, padding: str, fused: bool
) -> None:
    scorer(padding, fused).save(tmp_path / "clap")
    hears, target = Clap(tmp_path / "clap"), str(tmp_path / "m.onnx")
    module = ClapEmbedding(hears.scorer).eval()
    assert (module.shortest, module.sample_rate_hz, module.window_s) == (400, CLAP_RATE, 1.0)
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "samples"}}}
    with torch.inference_mode():
        torch.onnx.export(module, (torch.from_numpy(sounds()[0]),), target, **names, dynamo=False)
    session = onnxruntime.InferenceSession(target)
    found = np.stack([session.run(None, {"x": sound})[0] for sound in sounds()])
    np.testing.assert_allclose(found, np.stack(hears(sounds())), atol=1e-5)
    assert np.ptp(found, axis=0).max() > 0.1
