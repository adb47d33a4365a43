"""What the page says of a report."""

from __future__ import annotations

from typing import Any

import pytest

from modhifi_graph.report.page import contents, sections

from .reports import report


class TestVerdict:
    def test_speed_size_and_error(self) -> None:
        assert contents.verdict(report()) == [
            "2.00 times as fast (95 % interval 1.80 to 2.20), with 50.0% of the multiply-accumulates and 75.0% of the "
            "parameters.",
            "The squared error of its outputs is 0.02 of their variance.",
        ]

    @pytest.mark.parametrize("interval", [[0.9, 1.2], [1.01, 1.02]])
    def test_what_two_builds_may_differ_by_is_no_speed_up(self, interval: list[float]) -> None:
        assert contents.verdict(report(interval=interval))[0].startswith("No difference in speed for certain (95 %")

    def test_accuracy_is_said_first_hand(self) -> None:
        said = contents.verdict(report(accuracy={"before": 99.5, "after": 98.25}))
        assert said[1] == "Accuracy on the test images goes from 99.50 to 98.25 % (\N{MINUS SIGN}1.25 points)."

    def test_without_timing(self) -> None:
        found = report(interval=None, latency_ms=None)
        assert contents.verdict(found)[0] == "50.0% of the multiply-accumulates and 75.0% of the parameters are left."
        assert sections.speed(found) is None


def test_figures() -> None:
    found = contents.figures(report(accuracy={"before": 99.5, "after": 98.25}))
    assert [(f.title, f.before, f.after) for f in found] == [
        ("Accuracy, %", "99.50", "98.25"),
        ("Fidelity", "1", "0.980"),
        ("Latency, ms", "2.00", "1.00"),
        ("Multiply-accumulates", "2 M", "1 M"),
        ("Parameters", "4,000", "3,000"),
        ("Bytes", "17,000", "13,000"),
    ]


class TestSpeed:
    def test_two_points_without_a_search(self) -> None:
        found = sections.speed(report())
        assert found is not None
        assert found.attempts is None
        assert found.rows == [
            ["dense", "1.000", "", "1.000000"],
            ["slim", "2.000", "1.800 to 2.200", "0.980"],
        ]

    def test_attempts_of_a_search(self) -> None:
        tried = [
            {"speedup": 1.5, "interval": [1.4, 1.6], "by": "latency", "step": 8, "chosen": False},
            {"speedup": 1.9, "interval": [1.7, 2.1], "by": "macs", "step": 1, "chosen": True},
        ]
        found = sections.speed(report(search={"met": True, "attempts": tried}))
        assert found is not None
        assert found.attempts is not None
        assert found.attempts.count('class="point taken"') == 1
        assert found.rows[-2:] == [
            ["attempt 1: by milliseconds in steps of 8", "1.500", "1.400 to 1.600", ""],
            ["attempt 2: by multiply-accumulates in steps of 1, taken", "1.900", "1.700 to 2.100", ""],
        ]

    def test_a_front_and_attempts_with_fidelity_are_points(self) -> None:
        front = [
            {"speedup": s, "interval": [s, s], "fidelity": f, "macs": 1, "file": "f"} for s, f in ((1.5, 0.9), (3, 0.5))
        ]
        attempt = {"speedup": 1.9, "interval": [1.7, 2.1], "by": "latency", "step": 8, "chosen": False}
        tried = [{**attempt, "fidelity": 0.7}]
        found = sections.speed(report(front=front, search={"met": True, "attempts": tried}))
        assert found is not None
        assert [row[0] for row in found.rows] == [
            "dense",
            "f",
            "f",
            "attempt",
            "slim",
            "attempt 1: by milliseconds in steps of 8",
        ]
        assert found.front is not None
        assert found.front.count("<circle") == 5


class TestStrips:
    def test_what_a_group_lost(self) -> None:
        found = sections.strips(report())
        assert [(s.name, s.after, s.before, s.lost, s.note) for s in found.first] == [
            ("conv1.weight", 4, 8, "0.01", ""),
            ("conv2.weight", 4, 4, "", "consumed by Foo 'f'"),
        ]
        assert found.exemplar_name == "conv1.weight"

    def test_many_groups_are_folded(self) -> None:
        rows = [{"name": f"g{i}", "kind": "channels", "before": 4, "after": 4} for i in range(300)]
        found = sections.strips(report(groups=rows))
        assert (len(found.first), len(found.others)) == (40, 260)
        assert found.exemplar is None

    def test_a_group_that_went_with_its_branch(self) -> None:
        rows = [{"name": "g", "kind": "hidden", "before": 4, "after": 0}]
        assert sections.strips(report(groups=rows)).first[0].note == "went with its branch"

    @pytest.mark.parametrize(
        ("settings", "unit"),
        [
            ({"criterion": "obs"}, "lost, as a share of the variance of the outputs"),
            ({"criterion": "magnitude", "samples": 0}, "lost, as a sum of scores (magnitude)"),
            ({"criterion": "obs", "prices": "local"}, "lost, as a share of the energy of the streams"),
        ],
    )
    def test_units(self, settings: dict[str, Any], unit: str) -> None:
        assert sections.strips(report(plan={"settings": settings})).unit == unit


class TestLayers:
    def test_rows_and_sums(self) -> None:
        found = sections.layers(report())
        assert found is not None
        assert [(row.name, row.ops, row.before, row.after) for row in found.longest] == [
            ("conv1", "Conv + Add + Mul + 1 more", "1.50", "0.500"),
            ("gone", "Conv", "0.250", "gone"),
        ]
        assert (found.sums, found.whole, found.rest) == (("1.75", "0.500"), ("2.00", "1.00"), None)

    def test_the_longest_twenty_and_the_rest(self) -> None:
        rows = [{"name": str(i), "ops": ["Conv"], "before": float(i), "after": 0.5} for i in range(30)]
        found = sections.layers(report(layers={"rows": rows, "not_timed": []}))
        assert found is not None
        assert [row.name for row in found.longest] == [str(i) for i in range(29, 9, -1)]
        assert found.rest is not None
        assert (found.rest.name, found.rest.before, found.rest.after) == ("the other 10", "45.0", "5.00")

    def test_none_where_none_were_timed(self) -> None:
        assert sections.layers({}) is None


def test_facts() -> None:
    said = dict(contents.facts(report()))
    assert said["Calibration"] == "500 unlabelled samples, given, each with its mirror image"
    assert said["Budget"] == "0.5 of multiply-accumulates"
    assert said["Engine"] == "onnxruntime 1.0 (CPUExecutionProvider), fp32, 1 threads, batch 1"
    assert said["Machine"] == "P, 2 cores, 4.0 GiB"
    for settings, goal in (({"speedup": 2.0}, "2 times as fast"), ({"latency": 12.5}, "12.5 ms a run")):
        found = report(plan={"settings": settings}, calibration=None, timing={})
        assert dict(contents.facts(found))["Goal"] == goal
    module = report()
    del module["timing"]["batch"]  # modules are timed on their example inputs
    assert dict(contents.facts(module))["Engine"] == "onnxruntime 1.0 (CPUExecutionProvider), fp32, 1 threads"
