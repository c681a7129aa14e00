"""Sound sources: one function per class, which renders one event from a random generator.

Every source takes `(rng, n, rate, pitch_hz)` and returns `(n,)` float64 with a peak near 1. All are
closed forms or linear filters over whole arrays, about a millisecond per second of sound.
"""

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

Signal = np.ndarray


def _time(n: int, rate: int) -> Signal:
    return np.arange(n) / rate


def _phase(frequency_hz: Signal, rate: int) -> Signal:
    """Phase in radians of an instantaneous frequency `(n,)` in Hz."""
    return 2 * np.pi * np.cumsum(frequency_hz) / rate


def _fade(n: int, rate: int, attack_s: float, release_s: float) -> Signal:
    """Linear attack and release, 1 between them."""
    t = np.arange(n)
    return np.minimum(1.0, np.minimum((t + 1) / max(1.0, attack_s * rate), (n - t) / max(1.0, release_s * rate)))


def band_pass(x: Signal, rate: int, low_hz: float, high_hz: float, order: int = 2) -> Signal:
    """Butterworth band-pass along the last axis; the upper edge is kept below the Nyquist frequency."""
    high_hz = min(high_hz, 0.49 * rate)
    low_hz = min(low_hz, 0.9 * high_hz)
    return sosfilt(butter(order, [low_hz, high_hz], "bandpass", fs=rate, output="sos"), x)


def resonate(x: Signal, rate: int, frequency_hz: float, bandwidth_hz: float) -> Signal:
    """Two-pole resonance with a gain of about 1 at its centre."""
    radius = np.exp(-np.pi * bandwidth_hz / rate)
    angle = 2 * np.pi * min(frequency_hz, 0.48 * rate) / rate
    gain = (1 - radius) * np.sqrt(1 - 2 * radius * np.cos(2 * angle) + radius**2)
    return lfilter([gain], [1.0, -2 * radius * np.cos(angle), radius**2], x)


def _peak(x: Signal) -> Signal:
    return x / max(1e-9, float(np.abs(x).max()))


def beep(rng: np.random.Generator, n: int, rate: int, pitch_hz: float) -> Signal:
    """A steady tone with weak second and third harmonics."""
    phase = 2 * np.pi * pitch_hz * _time(n, rate)
    second, third = rng.uniform(0, 0.25, 2)
    return _peak((np.sin(phase) + second * np.sin(2 * phase) + third * np.sin(3 * phase)) * _fade(n, rate, 0.005, 0.01))


def siren(rng: np.random.Generator, n: int, rate: int, pitch_hz: float) -> Signal:
    """A tone that sweeps up and down, sine- or saw-like."""
    cycle = (rng.uniform(0.8, 4.0) * _time(n, rate) + rng.uniform()) % 1.0
    sweep = np.sin(2 * np.pi * cycle) if rng.uniform() < 0.6 else 2 * cycle - 1
    phase = _phase(pitch_hz * 2 ** (rng.uniform(0.35, 0.8) * sweep), rate)
    harmonics = rng.uniform(0.1, 0.5)
    return _peak(
        (np.sin(phase) + harmonics * np.sin(2 * phase) + 0.5 * harmonics * np.sin(3 * phase))
        * _fade(n, rate, 0.02, 0.03)
    )


def bird_chirp(rng: np.random.Generator, n: int, rate: int, pitch_hz: float) -> Signal:
    """A short whistle that glides and trills."""
    u = np.linspace(0, 1, n)
    glide = rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 0.9)
    trill = rng.uniform(0.02, 0.12) * np.sin(2 * np.pi * rng.uniform(18, 45) * _time(n, rate))
    return np.sin(_phase(pitch_hz * 2 ** (glide * (u - 0.5) + trill), rate)) * np.sin(np.pi * u) ** 0.7


def clap(rng: np.random.Generator, n: int, rate: int, pitch_hz: float) -> Signal:
    """Three or four noise bursts within 30 ms, then a short decay, around `pitch_hz`."""
    t = _time(n, rate)
    envelope = np.zeros(n)
    onsets = np.sort(rng.uniform(0, 0.03, rng.integers(3, 5)))
    for onset in onsets:
        envelope += np.where(t >= onset, np.exp(-(t - onset) / 0.004), 0.0)
    envelope += np.where(t >= onsets[-1], np.exp(-(t - onsets[-1]) / rng.uniform(0.02, 0.06)), 0.0)
    return _peak(band_pass(rng.standard_normal(n) * envelope, rate, pitch_hz / 1.7, pitch_hz * 1.9))


def rain(rng: np.random.Generator, n: int, rate: int, pitch_hz: float) -> Signal:
    """Dense small drops over a high-passed hiss; the drops ring at `pitch_hz`."""
    drops = np.zeros(n)
    count = max(4, int(rng.uniform(120, 400) * n / rate))
    drops[rng.integers(0, n, count)] = rng.standard_normal(count) * rng.exponential(1.0, count)
    drops = resonate(drops, rate, pitch_hz, 900.0)
    hiss = lfilter([1.0, -0.85], [1.0], rng.standard_normal(n))
    return _peak(drops / (drops.std() + 1e-9) + rng.uniform(0.4, 0.9) * hiss / hiss.std())


def engine(rng: np.random.Generator, n: int, rate: int, pitch_hz: float) -> Signal:
    """An uneven pulse train at the firing rate through body resonances."""
    speed = pitch_hz * (1 + rng.uniform(-0.25, 0.25) * np.linspace(-1, 1, n))
    cycle = np.cumsum(speed) / rate
    fired = np.diff(np.floor(cycle), prepend=0.0)
    pulses = fired * rng.uniform(0.6, 1.4, n) + 0.02 * rng.standard_normal(n)
    body = sum(resonate(pulses, rate, rng.uniform(lo, hi), 120.0) for lo, hi in ((90, 250), (350, 700), (900, 1800)))
    return _peak(np.tanh(3 * _peak(np.asarray(body))) * _fade(n, rate, 0.02, 0.02))


def guitar_pluck(rng: np.random.Generator, n: int, rate: int, pitch_hz: float) -> Signal:
    """Karplus-Strong: a noise burst through a damped comb filter, solved in the frequency domain.

    The decay is short against the padded length, so the circular tail is inaudible.
    """
    delay = rate / pitch_hz
    burst = np.zeros(n)
    width = min(n, int(delay) + 1)
    burst[:width] = rng.uniform(-1, 1, width)
    size = 1 << (2 * n - 1).bit_length()
    angle = -2j * np.pi / size * np.arange(size // 2 + 1)
    loss = 10 ** (-3 / (rng.uniform(0.25, 0.9) * pitch_hz))
    damping = rng.uniform(0.2, 0.5)
    comb = 1 - loss * ((1 - damping) + damping * np.exp(angle)) * np.exp(angle * (delay - damping))
    return _peak(np.fft.irfft(np.fft.rfft(burst, size) / comb, size)[:n])


_BELL_RATIOS = np.array([0.5, 1.0, 1.19, 1.56, 2.0, 2.66, 3.01, 4.1])


def bell(rng: np.random.Generator, n: int, rate: int, pitch_hz: float) -> Signal:
    """Inharmonic partials; higher ones decay faster."""
    ratios = _BELL_RATIOS * rng.uniform(0.985, 1.015, 8)
    ratios = ratios[ratios * pitch_hz < 0.48 * rate]
    t = _time(n, rate)
    decay_s = rng.uniform(0.15, 0.5)
    x = np.zeros(n)
    for ratio, gain in zip(ratios, rng.uniform(0.3, 1.0, len(ratios)), strict=True):
        x += gain * np.sin(2 * np.pi * ratio * pitch_hz * t) * np.exp(-t * ratio**0.7 / decay_s)
    return _peak(x * _fade(n, rate, 0.002, 0.01))


def drum(rng: np.random.Generator, n: int, rate: int, pitch_hz: float) -> Signal:
    """A tone that falls to `pitch_hz`, with a click."""
    t = _time(n, rate)
    tone = np.sin(_phase(pitch_hz * (1 + rng.uniform(0.8, 2.0) * np.exp(-t / 0.025)), rate))
    click = rng.standard_normal(n) * np.exp(-t / 0.004) * rng.uniform(0.1, 0.5)
    return _peak((tone * np.exp(-t / rng.uniform(0.06, 0.18)) + click) * _fade(n, rate, 0.001, 0.01))


def hi_hat(rng: np.random.Generator, n: int, rate: int, pitch_hz: float) -> Signal:
    """High noise and metallic partials with a fast decay; `pitch_hz` is the lower edge."""
    t = _time(n, rate)
    metal = sum(np.sign(np.sin(2 * np.pi * f * t)) for f in rng.uniform(0.5, 0.95, 3) * pitch_hz)
    x = band_pass(rng.standard_normal(n) + 0.4 * np.asarray(metal), rate, pitch_hz, 0.48 * rate)
    return _peak(x * np.exp(-t / rng.uniform(0.015, 0.07)))


def whistle(rng: np.random.Generator, n: int, rate: int, pitch_hz: float) -> Signal:
    """A breathy tone with vibrato and a slow attack."""
    t = _time(n, rate)
    vibrato = rng.uniform(0.01, 0.05) * np.sin(2 * np.pi * rng.uniform(4.5, 8) * t + rng.uniform(0, 6.28))
    bend = rng.uniform(-0.15, 0.15) * np.linspace(0, 1, n)
    tone = np.sin(_phase(pitch_hz * 2 ** (vibrato + bend), rate))
    breath = resonate(rng.standard_normal(n), rate, pitch_hz, 300.0)
    return _peak((tone + rng.uniform(0.05, 0.2) * breath / (breath.std() + 1e-9)) * _fade(n, rate, 0.06, 0.08))


def dog_bark(rng: np.random.Generator, n: int, rate: int, pitch_hz: float) -> Signal:
    """A rough voiced burst whose pitch rises and falls, through three formants."""
    u = np.linspace(0, 1, n)
    cycle = np.cumsum(pitch_hz * (1 + rng.uniform(0.2, 0.6) * np.sin(np.pi * u) - 0.2 * u)) / rate
    voice = 2 * (cycle % 1.0) - 1 + rng.uniform(0.2, 0.5) * rng.standard_normal(n)
    formants = ((450, 700), (1000, 1500), (2100, 2800))
    x = sum(
        gain * resonate(voice, rate, rng.uniform(lo, hi), 220.0)
        for (lo, hi), gain in zip(formants, (1.0, 0.8, 0.4), strict=True)
    )
    return _peak(np.asarray(x) * np.minimum(1.0, u / 0.08) * (1 - u) ** rng.uniform(0.6, 1.2))


def buzzer(rng: np.random.Generator, n: int, rate: int, pitch_hz: float) -> Signal:
    """A square wave with a fast tremolo, without its lowest band."""
    t = _time(n, rate)
    square = np.tanh(6 * np.sin(2 * np.pi * pitch_hz * t))
    tremolo = 1 - rng.uniform(0.2, 0.8) * (np.sin(2 * np.pi * rng.uniform(20, 55) * t) > 0)
    return _peak(band_pass(square * tremolo, rate, 150.0, rng.uniform(2500, 5500)) * _fade(n, rate, 0.005, 0.005))


def water_drip(rng: np.random.Generator, n: int, rate: int, pitch_hz: float) -> Signal:
    """A bubble: a short tone that rises while it decays."""
    t = _time(n, rate)
    tone = np.sin(_phase(pitch_hz * (1 + rng.uniform(4, 14) * t), rate))
    return _peak(tone * np.exp(-t / rng.uniform(0.015, 0.045)) * _fade(n, rate, 0.002, 0.005))


def hiss(rng: np.random.Generator, n: int, rate: int) -> Signal:
    """White noise."""
    return rng.standard_normal(n)


def wind(rng: np.random.Generator, n: int, rate: int) -> Signal:
    """Noise around a few hundred hertz that comes in gusts."""
    gusts = 1 + rng.uniform(0.3, 0.8) * np.sin(2 * np.pi * (rng.uniform(0.5, 2.5) * _time(n, rate) + rng.uniform()))
    return resonate(rng.standard_normal(n), rate, rng.uniform(250, 800), rng.uniform(200, 500)) * gusts


def rumble(rng: np.random.Generator, n: int, rate: int) -> Signal:
    """Noise below about 150 Hz."""
    return lfilter([1.0], [1.0, -1.9, 0.9035], rng.standard_normal(n))


def hum(rng: np.random.Generator, n: int, rate: int) -> Signal:
    """Mains hum: 50 or 60 Hz and its harmonics."""
    base = 2 * np.pi * float(rng.choice([50.0, 60.0])) * _time(n, rate)
    return np.asarray(sum(rng.uniform(0.2, 1.0) * np.sin(k * base + rng.uniform(0, 6.28)) for k in (1, 2, 3, 4, 6)))
