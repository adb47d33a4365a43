"""This project, by measured latency and by multiply-accumulates: one analysis, and the same allocation for both.

What differs is what a step of the selection is said to save: milliseconds on the backend, or multiply-accumulates. The model
is observed once; every try of the search is a selection and a slim graph, and only the last is repaired.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import onnx

from modhifi_graph.accounting import Cost
from modhifi_graph.axes.coupling import couple
from modhifi_graph.axes.groups import Groups, find_groups
from modhifi_graph.fidelity.analysis import Analysis, analyse
from modhifi_graph.fidelity.compensation import compensate
from modhifi_graph.fidelity.selection import Macs, Speedup, plan_of, select_all
from modhifi_graph.frontends.frontend import Batches
from modhifi_graph.frontends.onnx import OnnxFrontEnd
from modhifi_graph.mirrors import with_mirrors
from modhifi_graph.models import to_proto
from modhifi_graph.options import Options
from modhifi_graph.plan import Plan
from tools.paper.subjects import Subject
from tools.peers.contender import Contender


class Analysed:
    """A model that has been observed, and plans for it; the stages of :func:`modhifi_graph.optimization.run`, kept apart."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._plans: dict[tuple[str, float], Plan] = {}

    def by_macs(self, backend: str, fraction: float) -> Plan:
        removed, branches = select_all(self._analysis.rankings, {}, Cost(self._groups), Macs(fraction))
        return plan_of(self._analysis.rankings, removed, {"macs": fraction}, branches)

    def by_latency(self, backend: str, fraction: float) -> Plan:
        """The plan of ``--speedup``; asked again, the same one, though clocks never say the same twice."""
        if (backend, fraction) not in self._plans:
            options = self._options(backend, fraction)
            found = self._front.search(
                self._groups, self._analysis, self._batches.feeds, options, lambda stage, done, total: None
            )
            self._plans[backend, fraction] = found.plan
        return self._plans[backend, fraction]

    def slim(self, plan: Plan) -> onnx.ModelProto:
        return to_proto(self._front.slimmed(plan).model)

    def finished(self, plan: Plan) -> onnx.ModelProto:
        """Verified, repaired and declared as the original."""
        options, batches = self._options(), self._batches.feeds
        slim = self._front.slimmed(plan)
        self._front.verified(slim, plan, batches, options)
        compensate(
            self._front.program, self._groups, slim, plan, options.compensation, batches=batches,
            moments=self._analysis.moments, seed=options.seed, threads=options.threads,
        )  # fmt: skip
        repaired: onnx.ModelProto = self._front.finish(slim).hand_back(plan, {}).model
        return repaired

    def _options(self, backend: str = "onnxruntime", fraction: float = 1.0) -> Options:
        subject = self._subject
        return Options(
            Speedup(1 / fraction), None, seed=subject.seed, threads=subject.threads, bench_seconds=0, backend=backend
        )

    @cached_property
    def _front(self) -> OnnxFrontEnd:
        return OnnxFrontEnd(self._subject.source, self._options())

    @cached_property
    def _groups(self) -> Groups:
        return find_groups(couple(self._front.program.graph))

    @cached_property
    def _batches(self) -> Batches:
        batches = self._front.calibration(self._subject.calib, self._options())
        assert batches is not None
        return with_mirrors(batches, self._front.program.graph, None)

    @cached_property
    def _analysis(self) -> Analysis:
        return analyse(
            self._front.program,
            self._groups,
            self._batches.feeds,
            seed=self._subject.seed,
            threads=self._subject.threads,
        )


def contenders(subject: Subject) -> Mapping[str, Contender]:
    seen = Analysed(subject)
    return {
        name: Contender(
            lambda backend, fraction, plan=plan: seen.slim(plan(backend, fraction)),  # type: ignore[misc]
            lambda backend, fraction, plan=plan: seen.finished(plan(backend, fraction)),  # type: ignore[misc]
            ("modhifi-graph",),
        )
        for name, plan in {"speedup": seen.by_latency, "macs": seen.by_macs}.items()
    }
