"""What the main job asks of a model that somebody handed in, whatever kind it is."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modhifi_graph.axes.groups import Groups
from modhifi_graph.dialects.program import Program
from modhifi_graph.errors import InputError
from modhifi_graph.inputs.batches import Batches
from modhifi_graph.inputs.calibration import Calibration
from modhifi_graph.inputs.synthesis.subject import Subject
from modhifi_graph.interface import Feeds
from modhifi_graph.latency.search import Race
from modhifi_graph.options.request import Options
from modhifi_graph.plan import Plan
from modhifi_graph.progress import Progress
from modhifi_graph.prove.verification import Verification
from modhifi_graph.scoring.analysis import Analysis


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

    @property
    def own(self) -> Any:
        """Calibration inputs that come with the model; None where none do."""
        return None

    @property
    def example(self) -> Feeds | None:
        """The example inputs that the model was handed in with, as one batch; None where it came without any."""
        return None

    @abstractmethod
    def batches(self, calib: Any, options: Options) -> Batches:
        """Given inputs as the model takes them, those of :attr:`example` for None; InputError where they do not fit."""

    @abstractmethod
    def fed(self, data: Calibration) -> list[Feeds]:
        """Arrays in batches, where the model runs."""

    @abstractmethod
    def subject(self, threads: int) -> Subject:
        """The dense model, its batch norms not folded, to make inputs for."""

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
