"""Optimise ONNX files that other people published, and say in one line for each what came of it.

    python -m tools.evidence.wild                          every file of ../shared/onnx_wild, at 0.7 of the multiply-accumulates
    python -m tools.evidence.wild FOLDER_OR_FILE... --macs 0.5 --samples 32 --only '*silero*' --json

A file is "optimised" (verified, at the budget or as close to it as it can get), "declined" (left as it was, with the
reason) or refused with an "error" that names the exit code of the command line. Calibration inputs are random, so this
shows that the pass holds on any graph, not how good the result is. Anything else is a "defect": it would be a
traceback, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modhifi_graph.errors import ModhifiError
from modhifi_graph.jobs.optimize import optimize
from modhifi_graph.models.opening import open_model
from modhifi_graph.prove.verification import random_feeds
from tools.command import ROOT

FOLDER = ROOT.parent / "shared" / "onnx_wild"
SAMPLES = 16
FRACTION = 0.7


@dataclass(frozen=True)
class Outcome:
    """What came of one file.

    Attributes
    ----------
    file : its name.
    result : "optimised", "declined", "error" or "defect".
    detail : the reason, or the warnings.
    code : what the command line would exit with.
    macs : multiply-accumulates before and after.
    verify_error, tolerance : largest difference between the slim and the masked graph, and what is allowed.
    fidelity : 1 - relative squared error of the outputs on the random inputs.
    seconds : how long it took.
    """

    file: str
    result: str
    detail: str = ""
    code: int = 0
    macs: tuple[int, int] | None = None
    verify_error: float | None = None
    tolerance: float | None = None
    fidelity: float | None = None
    seconds: float = 0.0

    def __str__(self) -> str:
        line = f"{self.file:34} {self.result:10}"
        if self.macs is not None:
            before, after = self.macs
            line += f" MACs {before} -> {after} ({after / max(1, before):.3f})"
        if self.verify_error is not None:
            line += f", verify error {self.verify_error:.2g} of {self.tolerance:.2g}"
        if self.fidelity is not None:
            line += f", fidelity {self.fidelity:.4f}"
        line += f", {self.seconds:.1f} s"
        return f"{line} exit {self.code}: {self.detail}" if self.detail else line


def outcome(path: Path, fraction: float = FRACTION, samples: int = SAMPLES, threads: int = 1) -> Outcome:
    """Optimise one file as a user would, with random calibration inputs."""
    start = time.perf_counter()
    try:
        found = _optimised(path, fraction, samples, threads)
    except ModhifiError as error:
        found = Outcome(path.name, "error", " ".join(str(error).split()), error.exit_code)
    except Exception as error:
        found = Outcome(path.name, "defect", f"{type(error).__name__}: {' '.join(str(error).split())}", 1)
    return dataclasses.replace(found, seconds=round(time.perf_counter() - start, 1))


def _optimised(path: Path, fraction: float, samples: int, threads: int) -> Outcome:
    calib = random_calibration(path, samples, threads)
    report = optimize(path, calib, macs=fraction, bench_seconds=0, threads=threads).report
    left = report["components"]["after"] == report["components"]["before"]
    return Outcome(
        path.name,
        "declined" if left else "optimised",
        "; ".join(w for w in report["warnings"] if "calibration rows" not in w),
        macs=(report["macs"]["before"], report["macs"]["after"]),
        verify_error=report["verify"]["max_abs_error"],
        tolerance=report["verify"]["tolerance"],
        fidelity=report["fidelity"],
    )


def random_calibration(path: Path, samples: int, threads: int = 1) -> dict[str, NDArray[np.generic]]:
    """Random inputs that the model runs on; where it fixes its batch, several of them one after the other."""
    model = open_model(path).model
    feeds = random_feeds(model, 0, batch=samples, threads=threads)
    lengths = [value.shape[0] if value.shape else None for value in model.graph.inputs if not value.is_initializer()]
    if not all(isinstance(length, int) for length in lengths):
        return feeds
    more = [feeds, *(random_feeds(model, seed, threads=threads) for seed in range(1, samples))]
    return {name: np.concatenate([each[name] for each in more]) if feeds[name].ndim else feeds[name] for name in feeds}


def files(paths: Sequence[Path], only: str = "*") -> Iterator[Path]:
    """ONNX files in folders and by name."""
    for path in paths:
        found = sorted(path.glob("*.onnx")) if path.is_dir() else [path]
        yield from (file for file in found if fnmatch.fnmatchcase(file.name, only))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, default=[FOLDER], help="folders and .onnx files")
    parser.add_argument("--macs", type=float, default=FRACTION)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="random calibration inputs")
    parser.add_argument("--only", default="*", help="glob pattern on file names")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args(arguments)
    chosen = list(files(options.paths, options.only))
    if not chosen:
        print(f"wild: no .onnx file in {', '.join(map(str, options.paths))}", file=sys.stderr)
        return 2
    results = []
    for path in chosen:
        results.append(outcome(path, options.macs, options.samples, options.threads))
        print(json.dumps(dataclasses.asdict(results[-1])) if options.json else results[-1], flush=True)
    return 1 if any(found.result == "defect" for found in results) else 0


if __name__ == "__main__":
    sys.exit(main())
