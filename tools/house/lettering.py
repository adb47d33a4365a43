"""How wide words are without a font at hand: no narrower than in the widest of the usual system fonts, which is DejaVu Sans."""

from __future__ import annotations

from dataclasses import dataclass

CLASSES = {"'ijl": 0.31, " ,.:;/I": 0.36, "()frt-": 0.46, "abcdeghknopqsuvxyz_0123456789": 0.64, "mwMW": 1.0}
"""Widths of characters over the size of the type; all others, capitals above all, are as wide as ``OTHER``."""
OTHER = 0.84
BOLD = 1.13
MONOSPACE = 0.62


@dataclass(frozen=True)
class Type:
    """Letters of one kind; ``size`` in pixels."""

    size: float
    bold: bool = False
    monospace: bool = False

    def width(self, words: str) -> float:
        """Pixels that words take at most."""
        if self.monospace:
            return self.size * MONOSPACE * len(words)
        ems = sum(next((width for some, width in CLASSES.items() if letter in some), OTHER) for letter in words)
        return self.size * ems * (BOLD if self.bold else 1)

    def wrapped(self, words: str, width: float) -> list[str]:
        """Lines no wider than that; ValueError where a single word is."""
        lines: list[str] = []
        for word in words.split():
            if self.width(word) > width:
                raise ValueError(f"{word!r} is wider than its box of {width:g} px: find a shorter word")
            if lines and self.width(f"{lines[-1]} {word}") <= width:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
        return lines
