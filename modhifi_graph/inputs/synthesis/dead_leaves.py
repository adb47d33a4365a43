"""Pictures that nobody took: surfaces that occlude each other, textured and shaded, with the statistics of photographs.

A photograph is mostly things in front of other things. Dead leaves [1] are just that: shapes of power-law sizes, painted one
over the other. Their edges and their power spectrum, close to 1/f^2 and steeper where leaves are large, are a photograph's.
Leaves get what real surfaces have: a texture with a 1/f amplitude spectrum, or a grating, and shading. Colours differ mostly
in brightness and little in hue [2].

[1] Lee, Mumford, Huang: Occlusion models for natural images, 2001. [2] Ruderman, Cronin, Chiao: Statistics of cone responses
to natural images, 1998.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [-0.5, 1, -0.5]], np.float32)
"""Brightness, yellow against blue, and green against magenta, as red, green and blue."""
SPREAD = np.array([0.25, 0.07, 0.035], np.float32)
"""How far pixels in [0, 1] spread along each of these, as standard deviations."""

SMALLEST, LARGEST = (0.04, 0.25), 0.75
"""Radii of leaves as shares of the shorter side: their density falls as the cube of the radius from a least one on, which
differs from picture to picture as the distance to the scene does."""
COVERAGE = 0.4, 3.0
"""The area of all leaves over that of the picture."""
MOST_LEAVES = 150
FIELDS = 32
"""Textures are taken from so many random fields, each picture's at another place and turned in another way."""
FINE = 128 * 128
"""Pictures of at most so many pixels are painted twice as fine and averaged: leaves have hard edges."""


def photographs(count: int, height: int, width: int, channels: int, random: np.random.Generator) -> Floats:
    """Pictures of shape (count, channels, height, width), values in [0, 1].

    One channel is brightness and three are red, green and blue; a fourth (alpha) is 1. Time O(leaves * pixels) a picture:
    some 10 ms at 32 x 32 and 100 ms at 224 x 224 on one core.
    """
    fine = 2 if height * width <= FINE else 1
    slopes = random.uniform(0.8, 1.8, FIELDS).tolist()
    fields = np.concatenate([spectral(1, height * fine, width * fine, slope, random) for slope in slopes])
    out = np.empty((count, channels, height, width), np.float32)
    for picture in out:
        scene = _scene(fields, random)
        colours = _exposed(scene.reshape(3, height, fine, width, fine).mean((2, 4)), random)
        picture[:3] = colours if channels > 1 else colours.mean(0, keepdims=True)
        picture[3:] = 1
    return out


def spectral(count: int, height: int, width: int, slope: float, random: np.random.Generator) -> Floats:
    """Random fields (count, height, width) whose amplitude falls as 1/frequency^slope; mean 0 and variance 1 each."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(random.standard_normal((count, height, width)))
    field = np.fft.irfft2(spectrum * frequency**-slope, s=(height, width))
    deviation = field.std((1, 2), keepdims=True)
    return np.asarray(field / np.where(deviation > 0, deviation, 1), np.float32)


def _scene(fields: Floats, random: np.random.Generator) -> Floats:
    """Leaves over a ground, in opponent coordinates: (3, height, width)."""
    shape = fields.shape[1:]
    textures = np.stack([_moved(fields[i], random) for i in random.integers(len(fields), size=6)])
    ground = SPREAD[:, None, None] * textures[:3] * np.float32(random.uniform(0.1, 0.6))
    scene: Floats = ground + _colours(1, random)[0][:, None, None]
    sizes = _sizes(shape, random)
    for size, colour in zip(sizes, _colours(len(sizes), random), strict=True):
        _paint(scene, textures[3:], size, colour, random)
    return scene


def _moved(field: Floats, random: np.random.Generator) -> Floats:
    """A periodic field from another place, perhaps mirrored or negative."""
    there = np.roll(field, (random.integers(field.shape[0]), random.integers(field.shape[1])), (0, 1))
    return np.asarray(there[:: random.choice([-1, 1]), :: random.choice([-1, 1])] * np.float32(random.choice([-1, 1])))


def _colours(count: int, random: np.random.Generator) -> Floats:
    """Colours in opponent coordinates, (count, 3)."""
    brightness = random.uniform(0.05, 0.95, count)
    chroma = random.laplace(0, 1, (count, 2)) * SPREAD[1:] / np.sqrt(2)
    return np.column_stack([brightness, chroma]).astype(np.float32)


def _sizes(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float64]:
    """Radii with density r^-3, until they cover enough; half of the time the small ones come last: in front."""
    side = min(shape)
    low, high = max(1.0, side * np.exp(random.uniform(*np.log(SMALLEST)))), LARGEST * side
    share = random.uniform(size=MOST_LEAVES)
    radii = (share * low**-2 + (1 - share) * high**-2) ** -0.5
    covered = np.cumsum(np.pi * radii**2) / np.prod(shape)
    radii = radii[: 1 + np.searchsorted(covered, np.exp(random.uniform(*np.log(COVERAGE))))]
    return np.asarray(np.sort(radii)[::-1] if random.uniform() < 0.5 else radii)


def _paint(scene: Floats, textures: Floats, size: float, colour: Floats, random: np.random.Generator) -> None:
    """One leaf over what is there: a superellipse with a wavy outline, stretched, turned, textured and shaded."""
    _, height, width = scene.shape
    centre = random.uniform(-0.1, 1.1, 2) * (height, width)
    top, left = (max(0, int(c - 2.2 * size)) for c in centre)
    bottom, right = (min(n, int(c + 2.2 * size) + 2) for n, c in zip((height, width), centre, strict=True))
    if top >= bottom or left >= right:
        return
    down = ((np.arange(top, bottom) - centre[0]) / size).astype(np.float32)[:, None]
    across = ((np.arange(left, right) - centre[1]) / size).astype(np.float32)[None]
    angle, stretch = random.uniform(0, np.pi), np.float32(np.exp(random.uniform(-0.5, 0.5)))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = (cos * down + sin * across) * stretch, (cos * across - sin * down) / stretch
    waves, phase, depth = random.integers(2, 6), random.uniform(0, 6.28), random.uniform(0, 0.25)
    outline = 1 + np.float32(depth) * np.cos(np.float32(waves) * np.arctan2(v, u) + np.float32(phase))
    power = float(random.choice([1.0, 2.0, 2.0, 2.0, 8.0]))
    inside = np.abs(u) ** power + np.abs(v) ** power <= outline**power
    surface = _surface(textures[:, top:bottom, left:right], u, v, random)
    tint = np.float32(random.normal(0, 0.15))
    leaf = colour[:, None, None] + np.stack([surface, surface * tint, np.zeros_like(surface)])
    np.copyto(scene[:, top:bottom, left:right], leaf, where=inside)


def _surface(textures: Floats, u: Floats, v: Floats, random: np.random.Generator) -> Floats:
    """Brightness over a leaf: shading, and a texture or a grating."""
    shading = np.float32(random.normal(0, 0.08)) * u + np.float32(random.normal(0, 0.08)) * v
    if random.uniform() < 0.15:
        waves = np.sin(np.float32(random.uniform(3, 15)) * u + np.float32(random.uniform(0, 6.28)))
        return np.asarray(shading + waves * np.float32(random.exponential(0.08)))
    return np.asarray(shading + textures[random.integers(len(textures))] * np.float32(random.exponential(0.06)))


def _exposed(scene: Floats, random: np.random.Generator) -> Floats:
    """Red, green and blue in [0, 1], with contrast and gamma as cameras vary them; (3, height, width)."""
    colours = np.einsum("ko,khw->ohw", OPPONENT, scene)
    middle = colours.mean()
    colours = middle + (colours - middle) * np.exp(random.normal(0, 0.25)) + random.normal(0, 0.08)
    return np.asarray(np.clip(colours, 0, 1) ** np.exp(random.normal(0, 0.2)), np.float32)
