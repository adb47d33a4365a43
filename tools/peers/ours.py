"""This project, by measured latency and by multiply-accumulates: one analysis, and the same allocation for both.

What differs is what a step of the selection is said to save: milliseconds on the backend, or multiply-accumulates. The model
is observed once; every try of the search is a selection and a slim graph, and only the last ones are repaired.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import onnx

from modhifi_graph.dialects.onnx import Lifted
from modhifi_graph.dialects.onnx_proto import to_proto
from modhifi_graph.frontends.onnx import OnnxFrontEnd
from modhifi_graph.jobs.pipeline import Job, Repaired
from modhifi_graph.latency.search import Race
from modhifi_graph.options.request import made
from modhifi_graph.plan import Plan
from modhifi_graph.select.budget import Macs
from modhifi_graph.select.goal import Speedup
from tools.experiments.subjects import Subject
from tools.peers.contender import Contender


class Analysed:
    """A model that has been observed, and plans for it."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._races: dict[str, Race] = {}
        self._found: dict[tuple[str, float], Repaired] = {}

    def by_macs(self, backend: str, fraction: float) -> Plan:
        return self._job.selected(Macs(fraction), deep=False)

    def by_macs_and_depth(self, backend: str, fraction: float) -> Plan:
        return self._job.selected(Macs(fraction))

    def by_latency(self, backend: str, fraction: float) -> Plan:
        """The plan of ``--speedup``; asked again, the same one, though clocks never say the same twice."""
        if backend not in self._races:
            self._races[backend] = self._job.race(backend)
        if (backend, fraction) not in self._found:
            self._found[backend, fraction], _ = self._job.searched(self._races[backend], Speedup(1 / fraction))
        return self._found[backend, fraction].plan

    def slim(self, plan: Plan) -> onnx.ModelProto:
        slim = self._job.slim(plan)
        assert isinstance(slim, Lifted)
        return to_proto(slim.model)

    def finished(self, plan: Plan) -> onnx.ModelProto:
        """Verified, repaired and declared as the original."""
        known = [found for found in self._found.values() if found.plan is plan]
        repaired = known[0] if known else self._job.repaired(plan)
        model: onnx.ModelProto = repaired.finished.hand_back(plan, {}).model
        return model

    @cached_property
    def _job(self) -> Job:
        subject = self._subject
        options = made(speedup=1.0, seed=subject.seed, threads=subject.threads, bench_seconds=0.0)
        return Job(lambda: OnnxFrontEnd(subject.source, options), subject.calib, options)


def contenders(subject: Subject) -> Mapping[str, Contender]:
    seen = Analysed(subject)
    plans = {"speedup": seen.by_latency, "macs": seen.by_macs, "macs-depth": seen.by_macs_and_depth}
    return {
        name: Contender(
            lambda backend, fraction, plan=plan: seen.slim(plan(backend, fraction)),  # type: ignore[misc]
            lambda backend, fraction, plan=plan: seen.finished(plan(backend, fraction)),  # type: ignore[misc]
            ("modhifi-graph",),
        )
        for name, plan in plans.items()
    }
