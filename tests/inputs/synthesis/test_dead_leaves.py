"""Painted pictures have the statistics that photographs have."""

from __future__ import annotations

import numpy as np
import pytest

from modhifi_graph.inputs.synthesis.dead_leaves import photographs, spectral

SIDE = 32


def slope(fields: np.ndarray) -> float:
    """Of the logarithm of power over that of frequency, for fields (n, h, w), up to 0.4 cycles a pixel."""
    centred = fields - fields.mean((1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(centred)) ** 2).mean(0)
    frequency = np.hypot(np.fft.fftfreq(fields.shape[1])[:, None], np.fft.fftfreq(fields.shape[2])[None])
    inside = (frequency > 0) & (frequency < 0.4)
    return float(np.polyfit(np.log(frequency[inside]), np.log(power[inside]), 1)[0])


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return photographs(300, SIDE, SIDE, 3, np.random.default_rng(0))


def test_the_spectrum_falls_as_that_of_photographs(pictures: np.ndarray) -> None:
    """-2.93 on CIFAR-10; white noise has 0."""
    assert -3.1 < slope(pictures.mean(1)) < -2.5
    noise = np.random.default_rng(0).random((100, SIDE, SIDE))
    assert abs(slope(noise)) < 0.1


@pytest.mark.parametrize("falloff", [0.5, 1.0, 1.6])
def test_fields_have_the_slope_asked_for(falloff: float) -> None:
    fields = spectral(400, 48, 40, falloff, np.random.default_rng(1))
    # Power is the square of amplitude; equal variances weigh the fields a little differently.
    assert slope(fields) == pytest.approx(-2 * falloff, abs=0.1)
    np.testing.assert_allclose(fields.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(fields.std((1, 2)), 1, rtol=1e-4)


def test_differences_between_neighbours_are_many_small_ones_and_a_few_edges(pictures: np.ndarray) -> None:
    """The kurtosis is 3 for a Gaussian field and 9 on CIFAR-10."""
    steps = np.diff(pictures.mean(1), axis=2)
    assert 7 < (steps**4).mean() / (steps**2).mean() ** 2 < 30


def test_colours_differ_in_brightness_more_than_in_hue(pictures: np.ndarray) -> None:
    red, green, blue = pictures.transpose(1, 0, 2, 3)
    brightness = pictures.mean(1).std()
    assert 0.2 < brightness < 0.35
    assert 0.05 < (red - blue).std() < 0.7 * brightness
    assert 0.02 < (green - (red + blue) / 2).std() < 0.4 * brightness
    np.testing.assert_allclose(pictures.mean((0, 2, 3)), 0.5, atol=0.06)


def test_values_shapes_and_seeds(pictures: np.ndarray) -> None:
    assert pictures.dtype == np.float32
    assert (pictures.min(), pictures.max()) == (0, 1)
    again = photographs(300, SIDE, SIDE, 3, np.random.default_rng(0))
    assert again.tobytes() == pictures.tobytes()
    assert not np.array_equal(photographs(2, SIDE, SIDE, 3, np.random.default_rng(1)), pictures[:2])
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    grey = photographs(2, 8, 20, 1, np.random.default_rng(0))
    assert grey.shape == (2, 1, 8, 20)
    assert grey.std() > 0.05
    clear = photographs(2, 160, 130, 4, np.random.default_rng(0))
    assert clear.shape == (2, 4, 160, 130)
    assert (clear[:, 3] == 1).all()
    assert clear[:, :3].std() > 0.1
