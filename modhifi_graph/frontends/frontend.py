"""What the main job asks of a model that somebody handed in, whatever kind it is."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modhifi_graph.axes.groups import Groups
from modhifi_graph.dialects.program import Feeds, Program
from modhifi_graph.errors import InputError
from modhifi_graph.inputs.synthesis.subject import Subject
from modhifi_graph.inputs.synthesis.synthesise import Synthesised, made_for
from modhifi_graph.latency.search import Race
from modhifi_graph.options.options import Options
from modhifi_graph.plan import Plan
from modhifi_graph.progress import Progress, silent
from modhifi_graph.prove.verification import Verification
from modhifi_graph.scoring.analysis import Analysis


@dataclass(frozen=True)
class Batches:
    """Calibration inputs, in batches, how many samples they hold, and where they come from.

    ``source`` is "given" or "synthesised", ``what`` says what was synthesised, ``warning`` what the user should know of it, and
    ``mirrored`` whether each picture comes with its mirror image, which does not count as a sample.
    """

    feeds: Sequence[Feeds]
    samples: int
    source: str = "given"
    what: str = ""
    warning: str = ""
    mirrored: bool = False

    @classmethod
    def synthesised(cls, feeds: Sequence[Feeds], made: Synthesised) -> Batches:
        return cls(feeds, made.samples, "synthesised", made.what, made.warning)

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "what": self.what, "samples": self.samples, "mirrored": self.mirrored}


@dataclass(frozen=True)
class Optimized(ABC):
    """What :func:`modhifi_graph.optimize` made.

    Attributes
    ----------
    model : the slim model, of the kind that was given (for the path of an ONNX file an ``onnx.ModelProto``).
    plan : which components stay.
    report : figures before and after, by the names that ``--json`` prints.
    """

    model: Any
    plan: Plan
    report: dict[str, Any]

    @abstractmethod
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the slim model to a file that appears whole or not at all."""


class FrontEnd(ABC):
    """A model that has been opened and normalised.

    Attributes
    ----------
    label : what messages call it.
    program : the dense model, lifted.
    """

    label: str
    program: Program

    @abstractmethod
    def calibration(self, calib: Any, options: Options, progress: Progress = silent) -> Batches | None:
        """The calibration inputs, synthesised where none are given; None where there are none and none are needed."""

    @abstractmethod
    def subject(self, threads: int) -> Subject:
        """The dense model, its batch norms not folded, to make inputs for."""

    def synthesised(self, options: Options, progress: Progress = silent) -> Synthesised:
        """Inputs made for the model."""
        return made_for(self.subject(options.threads), options.samples, options.seed, progress)

    @abstractmethod
    def slimmed(self, plan: Plan) -> Program:
        """A copy without what the plan drops."""

    @abstractmethod
    def verified(
        self, slim: Program, plan: Plan, batches: Sequence[Feeds], options: Options, dense: Program | None = None
    ) -> Verification:
        """Proof that the copy computes what the dense model (or this one) does with the dropped components zeroed."""

    def race(
        self, groups: Groups, analysis: Analysis, batches: Sequence[Feeds], options: Options, progress: Progress
    ) -> Race:
        """What a goal is measured in; InputError where engines of this kind of model are not timed."""
        raise InputError(f"{self.label}: latency is measured on engines of ONNX models: export the module first")

    def layers(self, slim: Program, batches: Sequence[Feeds], options: Options) -> dict[str, Any] | None:
        """What every layer takes before and after; None where engines of this kind of model are not timed."""
        return None

    @abstractmethod
    def finish(self, slim: Program) -> Finished:
        """The repaired copy as what was handed in, with its interface checked."""


class Finished(ABC):
    """A finished model beside the original.

    Attributes
    ----------
    sizes : bytes before and after.
    """

    sizes: tuple[int, int]

    @abstractmethod
    def answers(self, batches: Sequence[Feeds], threads: int) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """What the original and the finished model make of some batches: their floating-point outputs."""

    @abstractmethod
    def latency(self, batches: Sequence[Feeds], options: Options) -> dict[str, Any]:
        """Both timed side by side: ``latency_ms``, ``speedup``, ``interval`` and ``timing``."""

    def accuracy(self, threads: int) -> dict[str, float] | None:
        """Of a model whose labelled test set is at hand, before and after, in percent."""
        return None

    @abstractmethod
    def hand_back(self, plan: Plan, report: dict[str, Any]) -> Optimized:
        """What the caller gets."""
