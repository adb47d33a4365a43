"""Every class of a classifier unlearned in turn, by every mode: what is forgotten, what remains, and who can tell.

    python -m tools.evidence.unlearn_classes --model sample:digits-cnn
    python -m tools.evidence.unlearn_classes --model resnet20.onnx --train train.npz --test test.npz --forget 200 --remain 1000

``--train`` and ``--test`` hold arrays x and y (labels). Labels choose which training images are to be forgotten, and score the
result; the method sees no others. A sample's training images have no labels: there the model's own answers stand for them.

Prints a Markdown table, one row a mode, means over the classes:

- forget: top-1 on the class's test images, mean and worst, and on the images that were given to be forgotten;
- remain: top-1 on the other classes' test images, edited and dense, all classes being possible answers;
- agreement: with the dense model on those images, where its answer was not the class;
- given, other: AUC of membership inference by loss, confidence and entropy, on the images given to be forgotten and on other
  training images of the class (which the dense model may have been trained on), against its test images; in brackets the mean
  over classes and attacks of max(AUC, 1 - AUC);
- relearn: top-1 on the class's test images after the last layer is refitted, in closed form on the edited model's features, to
  10 and to 100 further training images of the class and to 100 of each other; edited and dense;
- seconds: of the job for one class.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modhifi_graph import samples
from modhifi_graph.dialects.program import Stepper
from modhifi_graph.errors import ModhifiError
from modhifi_graph.forget.membership import attack
from modhifi_graph.forget.modes import MODES
from modhifi_graph.jobs.unlearn import unlearn
from modhifi_graph.models.opening import SAMPLE
from tools.experiments.classifier import Data, Model, Said

SHOTS = (10, 100)
MOST_OTHERS = 300


@dataclass(frozen=True)
class Split:
    """Positions among the training images: given to be forgotten, given to remain, and further ones of the class."""

    forget: np.ndarray
    remain: np.ndarray
    other: np.ndarray

    @classmethod
    def of(cls, train: Data, label: int, forget: int, remain: int, seed: int) -> Split:
        random = np.random.default_rng([seed, label])
        mine, rest = random.permutation(train.of(label)), random.permutation(np.flatnonzero(train.y != label))
        return cls(mine[:forget], rest[:remain], mine[forget : forget + MOST_OTHERS])


def relearnt(said: Said, wanted: np.ndarray, tests: Said, label: int, classes: int) -> float:
    """Percent of ``tests``, images of the class, that a linear classifier refitted to ``said`` gets right.

    Ridge regression of one-hot answers on standardised features, every class weighing the same.
    """
    mean, deviation = said.features.mean(0), said.features.std(0) + 1e-6

    def rows(features: torch.Tensor) -> torch.Tensor:
        return torch.cat([(features - mean) / deviation, features.new_ones(len(features), 1)], 1)

    target = torch.nn.functional.one_hot(torch.from_numpy(wanted), classes).double()
    x = rows(said.features)
    weighted = x / target.sum(0)[torch.from_numpy(wanted)][:, None]
    normal = weighted.T @ x + 1e-3 * classes * torch.eye(x.shape[1], dtype=x.dtype)
    solved = torch.linalg.solve(normal, weighted.T @ target)
    return 100 * float(((rows(tests.features) @ solved).argmax(1) == label).double().mean())


@dataclass(frozen=True)
class Bench:
    """What all rows of the table share."""

    source: str
    train: Data
    test: Data
    classes: int
    forget: int
    remain: int
    seed: int
    threads: int
    settings: Mapping[str, Any]

    def rows(self, modes: Sequence[str], labels: Sequence[int], published: int) -> Iterator[dict[str, Any]]:
        """The figures of one class by one mode after the other."""
        dense = Model(self.source, self.threads)
        steppers: dict[str, Stepper] = {}
        splits = {n: Split.of(self.train, n, self.forget, self.remain, self.seed) for n in range(self.classes)}
        pool = np.concatenate([np.concatenate([s.forget, s.other]) for s in splits.values()])
        x = np.concatenate([self.test.x, self.train.x[pool]])
        before = dense.says(x)
        place = {int(p): len(self.test.x) + i for i, p in enumerate(pool)}
        for mode in modes:
            for label in labels:
                split = splits[label]
                rest = np.concatenate([s.forget[: SHOTS[-1]] for n, s in splits.items() if n != label])
                result = unlearn(
                    self.source,
                    {dense.input: self.train.x[split.forget]},
                    {dense.input: self.train.x[split.remain]},
                    mode=mode,
                    label=label,
                    seed=self.seed,
                    threads=self.threads,
                    **self.settings,
                )
                edited = Model(result.model, self.threads)
                layers = result.report.get("layers", [])
                chosen = np.arange(len(self.test.x))
                if layers and not self.settings.get("macs"):
                    first = next(site for site in dense.sites if site.output.name == layers[0])
                    stepper = steppers.setdefault(layers[0], dense.ahead(x, first))
                    after = dense.gathered(stepper.outcome(dense.wanted, dense.changes(edited, layers)))
                else:  # everything has changed: as many test images as there is time for, spread over the whole
                    chosen = np.arange(0, len(self.test.x), max(1, len(self.test.x) // published))
                    members = np.array([place[int(p)] for p in [*split.forget, *split.other, *rest]])
                    told = edited.says(np.concatenate([x[chosen], x[members]]))
                    after = Said(torch.zeros_like(before.features), torch.zeros_like(before.scores))
                    picks = torch.from_numpy(np.concatenate([chosen, members]))
                    after.scores[picks] = told.scores
                    after = Said(torch.zeros(len(x), told.features.shape[1], dtype=torch.float64), after.scores)
                    after.features[picks] = told.features
                yield {
                    "mode": mode,
                    "class": label,
                    **self._figures(label, split, rest, place, chosen, before, after),
                    "fraction": result.report.get("fraction", ""),
                    "seconds": sum(result.report["seconds"].values()),
                }

    def _figures(
        self,
        label: int,
        split: Split,
        others: np.ndarray,
        place: Mapping[int, int],
        chosen: np.ndarray,
        before: Said,
        after: Said,
    ) -> dict[str, float]:
        truth = self.test.y[chosen]
        mine, rest = chosen[truth == label], chosen[truth != label]
        given, other = (np.array([place[int(p)] for p in part], dtype=int) for part in (split.forget, split.other))
        known = rest[before[rest].answers != label]
        found = {
            "forget": 100 * float((after[mine].answers == label).mean()),
            "forget_given": 100 * float((after[given].answers == label).mean()),
            "forget_dense": 100 * float((before[mine].answers == label).mean()),
            "remain": 100 * float((after[rest].answers == self.test.y[rest]).mean()),
            "remain_dense": 100 * float((before[rest].answers == self.test.y[rest]).mean()),
            "agreement": 100 * float((after[known].answers == before[known].answers).mean()),
        }
        for name, said in (("dense", before), ("edited", after)):
            for who, members in (("given", given), ("other", other)):
                if len(members):
                    aucs = attack(said[members].scores, said[mine].scores, label)
                    found |= {f"{name}_{who}_{how}": value for how, value in aucs.items()}
        remaining = np.array([place[int(p)] for p in others])
        for shots in SHOTS:
            few = other[:shots]
            shown = np.concatenate([few, remaining])
            wanted = np.concatenate([np.full(len(few), label), self.train.y[others]])
            for name, said in (("", after), ("_dense", before)):
                if len(few):
                    found[f"relearn_{shots}{name}"] = relearnt(said[shown], wanted, said[mine], label, self.classes)
        return found


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Means over the classes, by mode, as Markdown."""
    titles = [
        "mode",
        "forget (worst)",
        "given",
        "remain (dense)",
        "agreement",
        "AUC given",
        "AUC other",
        "relearn 10, 100",
    ]
    yield "| " + " | ".join([*titles, "dense", "seconds"]) + " |"
    yield "| --- |" + " ---: |" * (len(titles) + 1)
    for mode in dict.fromkeys(row["mode"] for row in rows):
        mine = [row for row in rows if row["mode"] == mode]
        yield "| " + " | ".join(_cells(mode, mine)) + " |"
    if rows:
        mine = [row for row in rows if row["mode"] == rows[0]["mode"]]
        who = [_aucs(mine, f"dense_{name}") for name in ("given", "other")]
        dense = [f"{_mean(mine, f'{name}_dense'):.2f}" for name in ("forget", "remain")]
        yield "| " + " | ".join(["dense", dense[0], "", dense[1], "", *who, "", "", ""]) + " |"


def _cells(mode: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    relearn = [", ".join(f"{_mean(rows, f'relearn_{n}{which}'):.0f}" for n in SHOTS) for which in ("", "_dense")]
    return [
        mode,
        f"{_mean(rows, 'forget'):.2f} ({max(row['forget'] for row in rows):.2f})",
        f"{_mean(rows, 'forget_given'):.2f}",
        f"{_mean(rows, 'remain'):.2f} ({_mean(rows, 'remain_dense'):.2f})",
        f"{_mean(rows, 'agreement'):.2f}",
        _aucs(rows, "edited_given"),
        _aucs(rows, "edited_other"),
        *relearn,
        f"{_mean(rows, 'seconds'):.1f}",
    ]


def _aucs(rows: Sequence[Mapping[str, Any]], who: str) -> str:
    names = [f"{who}_{how}" for how in ("loss", "confidence", "entropy")]
    if any(name not in row for row in rows for name in names):
        return ""
    folded = np.mean([max(row[name], 1 - row[name]) for row in rows for name in names])
    return "/".join(f"{_mean(rows, name):.3f}" for name in names) + f" [{folded:.3f}]"


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.mean([row.get(key, np.nan) for row in rows]))


def _data(source: str, train: Path | None, test: Path | None, threads: int) -> tuple[Data, Data]:
    if train is not None and test is not None:
        return tuple(_read(path) for path in (train, test))  # type: ignore[return-value]
    if not source.startswith(SAMPLE):
        raise SystemExit("give --train and --test; only samples bring their data")
    sample = samples.load(source)
    images = sample.calib[samples.INPUT]
    return Data(images, Model(source, threads).says(images).answers), Data(sample.test, sample.labels)


def _read(path: Path) -> Data:
    with np.load(path, allow_pickle=False) as stored:
        return Data(stored["x"], stored["y"].astype(np.int64))


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--classes", help="such as 0,3,7; all by default")
    parser.add_argument("--forget", type=int, default=200, help="images of the class that the method is given")
    parser.add_argument("--remain", type=int, default=1000, help="images of the others that it is given")
    parser.add_argument("--published", type=int, default=1000, help="test images for modes that change every layer")
    parser.add_argument("--mu", type=float, default=1.0)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--score", default="singleton")
    parser.add_argument("--macs", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--csv", type=Path, help="write every class and mode here")
    given = parser.parse_args()
    train, test = _data(given.model, given.train, given.test, given.threads)
    classes = int(max(train.y.max(), test.y.max())) + 1
    labels = [int(c) for c in given.classes.split(",")] if given.classes else list(range(classes))
    settings = {"mu": given.mu, "depth": given.depth, "score": given.score, "macs": given.macs}
    bench = Bench(given.model, train, test, classes, given.forget, given.remain, given.seed, given.threads, settings)
    rows = []
    for row in bench.rows(given.modes.split(","), labels, given.published):
        rows.append(row)
        print(f"{row['mode']} {row['class']}: forget {row['forget']:.2f}, remain {row['remain']:.2f}", file=sys.stderr)
        if given.csv:  # after every row: a run of an hour may be interrupted
            _write(given.csv, rows)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    try:
        main()
    except ModhifiError as error:
        raise SystemExit(str(error)) from error
