"""Distance of generated clips from the gold set: in mean spectrum, and in latent space."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.audio.mel import mel_filters
from common.audio.signal import is_silent, rms_dbfs, spectra
from common.clap.figures import frechet_distance

Spectrum = NDArray[np.float64]

BANDS = 64
FLOOR_DB = -100.0
LEVEL_DBFS = -20.0


def clip_spectrum(audio: np.ndarray, rate: int) -> Spectrum:
    """Log-mel spectrum of a clip, mean over frames, (BANDS,) in dB.

    The clip is first scaled to `LEVEL_DBFS`, since synthesis matches loudness afterwards anyway. Frames
    have 64 ms and half overlap; bands are triangular in mel from 30 Hz to Nyquist. Values are at least
    `FLOOR_DB`; a silent clip has `FLOOR_DB` in every band. `audio` is mono, (T,), at `rate` Hz.
    """
    n_fft = 2 ** round(np.log2(0.064 * rate))
    if is_silent(audio):
        return np.full(BANDS, FLOOR_DB)
    scaled = audio.astype(np.float64) * 10 ** ((LEVEL_DBFS - rms_dbfs(audio)) / 20)
    power = np.abs(spectra(scaled, n_fft, n_fft // 2)) ** 2 * (2 / np.hanning(n_fft).sum()) ** 2
    bands = power @ mel_filters(BANDS, n_fft, rate).T
    spectrum: Spectrum = np.maximum(10 * np.log10(bands + 1e-20), FLOOR_DB).mean(0)
    return spectrum


def spectrum_distance(generated: Mapping[str, Sequence[Spectrum]], gold: Mapping[str, Sequence[Spectrum]]) -> float:
    """Root mean square difference of mean spectra over bands, averaged over labels; in dB."""
    differences = [np.mean(spectra, axis=0) - np.mean(gold[label], axis=0) for label, spectra in generated.items()]
    return float(np.mean([np.sqrt(np.mean(difference**2)) for difference in differences]))


def latent_frechet(generated: Sequence[NDArray[np.float32]], gold: Sequence[NDArray[np.float32]]) -> float:
    """Squared Fréchet distance between Gaussians fitted to the latent frames of both sets.

    One frame is one sample of D dimensions; labels and the order of frames are ignored. The unit is
    that of the model's latents, each (D, L): compare models on one gold set, not across codecs.
    """
    frames = [np.concatenate([latent.T for latent in latents]) for latents in (generated, gold)]
    return frechet_distance(frames[0], frames[1])
