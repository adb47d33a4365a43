"""Sounds that nobody recorded: bursts of noise whose power falls with frequency, as speech and music do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LOUDEST = 0.5


def sounds(count: int, length: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Waveforms (count, length) with peaks of at most 0.5.

    Noise of power 1/f to 1/f^2 under an envelope that swells and fades a few times, from silence to the peak.
    """
    frequency = np.maximum(np.arange(length // 2 + 1), 1)
    slopes = random.uniform(0.5, 1.0, (count, 1))
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal((count, length))) * frequency**-slopes, n=length)
    swells = np.fft.rfft(random.standard_normal((count, length)))
    swells[:, min(16, len(frequency) // 2 + 1) :] = 0
    envelope = np.maximum(np.fft.irfft(swells, n=length), 0)
    wave = noise * envelope
    peak = np.abs(wave).max(1, keepdims=True)
    return np.asarray(wave * random.uniform(0.1, LOUDEST, (count, 1)) / np.where(peak > 0, peak, 1), np.float32)
