"""Every option of a run, once. Made from it are the command line (:mod:`modhifi_graph.cli.parameters`), the check of each
option by itself (:mod:`modhifi_graph.options.request`), ``docs/options.md`` and the parameters that
:func:`modhifi_graph.optimize` documents (``python -m tools.house.options`` writes both)."""

from __future__ import annotations

from pathlib import Path

from modhifi_graph.exporters import BACKENDS
from modhifi_graph.options.option import REQUIRED, Option, either
from modhifi_graph.repair.methods import METHODS
from modhifi_graph.scoring.criteria import CRITERIA, PRICES, SETS
from modhifi_graph.select.goal import RANGES
from modhifi_graph.select.ranges import FRACTION, Range

MODES = ("default", "paper")

GIVEN = (
    Option(
        "model",
        'path, "sample:NAME", onnx.ModelProto, onnx_ir.Model or onnx_graphsurgeon.Graph; nn.Module or ExportedProgram',
        REQUIRED,
        text="It is not modified. A path that ends in ``.pt2`` is an exported program.",
        flag="MODEL",
    ),
    Option(
        "inputs",
        "tensor, tuple of arguments or dict",
        text="Of a module its example inputs; of an ONNX model short for ``calib``.",
        flag=None,
    ),
    Option(
        "calib",
        "path, array or dict of arrays, for modules also tensors or a loader of them",
        help="Unlabelled inputs: .npz (arrays by input name), .npy or a folder of images; synthesised if not given.",
        text="Unlabelled inputs; see :func:`modhifi_graph.inputs.calibration.load`. Where nothing is given they are "
        "synthesised (:func:`modhifi_graph.synthesise`), or are a module's example inputs where these are many or are all "
        "there can be.",
        typed=str,
    ),
)
"""What the job is done to."""

BUDGETS = (
    Option(
        "macs",
        float,
        help="Fraction of multiply-accumulates that stays, in (0, 1].",
        text="A budget: the fraction of multiply-accumulates that stays.",
        range=FRACTION,
    ),
    Option(
        "params",
        float,
        help="Fraction of parameters that stays, in (0, 1].",
        text="A budget: the fraction of parameters that stays.",
        range=FRACTION,
    ),
    Option(
        "keep",
        float,
        help="Fraction of every group that stays, in (0, 1].",
        text="A budget: the fraction of the components of every group that stays.",
        range=FRACTION,
    ),
)

GOALS = (
    Option(
        "speedup",
        float,
        help="So many times as fast, measured in turns on --backend (not below 1).",
        text="A goal in place of a budget, measured on ``backend`` with ``threads`` and ``batch``: so many times as fast as "
        "the original, timed in turns (:mod:`modhifi_graph.latency.search`). Only for ONNX models, as the next two.",
        range=RANGES["speedup"],
    ),
    Option(
        "latency",
        float,
        help="So many milliseconds a run, measured on --backend.",
        text="A goal: so many milliseconds a run.",
        range=RANGES["latency"],
    ),
    Option(
        "fidelity",
        float,
        help="The fastest engine on --backend whose outputs keep this fidelity.",
        text="A goal: the fastest engine whose outputs keep this fidelity.",
        range=RANGES["fidelity"],
    ),
)

PLAN = Option(
    "plan",
    "Plan",
    help="Apply a plan that --plan-out wrote.",
    text='Apply this plan, in place of a budget or a goal. Exactly one of all these is given; mode "paper" takes ``macs``, '
    "``params`` or ``rounds``.",
    typed=Path,
)

AIMS = (*BUDGETS, *GOALS, PLAN)
"""Of which exactly one is given, but in mode "paper"."""

MODE = Option(
    "mode",
    str,
    "default",
    help="default, or paper: ModHiFi-P.",
    text="``paper`` is ModHiFi-P (:mod:`modhifi_graph.jobs.rounds`): HiFi sets give up the lowest ``percentile`` of what they "
    "score, and what all have given up goes, in rounds until ``macs`` or ``params`` is met.",
    choices=MODES,
)

PAPER = (
    Option(
        "percentile",
        float,
        0.1,
        help="Mode paper: the share that HiFi sets give up in a round, 0.01 to 0.2 there.",
        text='Only for mode "paper": the share that HiFi sets give up in a round; there from 0.01 to 0.2.',
        range=Range(0, 1, open=("low", "high"), expected="a fraction between 0 and 1"),
    ),
    Option(
        "rounds",
        int,
        help="Mode paper: so many rounds instead of a budget.",
        text='Only for mode "paper", in place of a budget: so many rounds, and the sparsity is what comes out. One where no '
        "budget is given either.",
        range=Range(1),
    ),
    Option(
        "hifi_sets",
        str,
        "layer",
        help="Mode paper: HiFi sets of every layer, or of every output channel: layer or channel.",
        text='Only for mode "paper": whose HiFi sets are kept. ``layer``: of every layer, all but the lowest scores that hold '
        "a share ``percentile`` of their sum; ``channel``, the paper's text to the letter: of every output channel, all but a "
        "share ``percentile`` of its contributions (see :mod:`modhifi_graph.scoring.hifi`).",
        choices=SETS,
    ),
)
"""What only mode "paper" looks at."""

OPTIONS = (
    Option(
        "budget",
        "Budget or Goal",
        text="A budget or a goal as an object: ``Macs(0.5)``, ``Params(0.5)``, ``Keep(0.5)``; ``Speedup(1.5)``, "
        "``Latency(20)``, ``Fidelity(0.99)``.",
        flag=None,
    ),
    *BUDGETS,
    *GOALS,
    Option(
        "backend",
        str,
        "onnxruntime",
        help=f"What latency is measured on: {either(BACKENDS)}; not the last for ONNX.",
        text="The engine that latency is measured on.",
        choices=BACKENDS,
    ),
    PLAN,
    Option(
        "details",
        bool,
        False,
        help="Write a page (.html) of what was done; it times every layer, which takes a little longer.",
        text="Add to the report what its page shows besides (:mod:`modhifi_graph.report.page`): of every group what each "
        "component costs, and what every layer takes before and after, which is measured for it.",
        flag="--report",
        typed=Path,
    ),
    MODE,
    *PAPER,
    Option(
        "criterion",
        str,
        help=f"What to remove: obs (fidelity in mode paper), {either(CRITERIA[2:])}.",
        text="By what components are chosen; see :mod:`modhifi_graph.scoring.criteria`.",
        choices=CRITERIA,
        of_mode={"default": "obs", "paper": "fidelity"},
    ),
    Option(
        "compensation",
        str,
        help="How to repair the rest: joint (scalar in mode paper), sequential, lstsq, bias or none.",
        text="How the rest is repaired; see :mod:`modhifi_graph.repair.methods`.",
        choices=METHODS,
        of_mode={"default": "joint", "paper": "scalar"},
    ),
    Option(
        "samples",
        int,
        help="Calibrate on a random subset of this size, or on so many synthesised inputs.",
        range=Range(1),
    ),
    Option("seed", int, 0, help="Seed of every random choice.", text="The same seed gives the same bytes."),
    Option(
        "only",
        "sequence of str",
        (),
        help="Prune only groups or parameters that match (repeatable).",
        text="Glob patterns: prune only groups or parameters that match.",
        typed=list[str],
    ),
    Option(
        "skip",
        "sequence of str",
        (),
        help="Leave groups or parameters that match whole (repeatable).",
        text="Glob patterns: leave groups or parameters that match whole.",
        typed=list[str],
    ),
    Option(
        "align",
        int,
        help="Keep multiples of so many channels; default 8 for groups of 64 and more, else 1.",
        text='Keep multiples of so many channels: by default 8 in groups of 64 and more and 1 below, and 1 in mode "paper".',
        range=Range(1),
        of_mode={"default": None, "paper": 1},
    ),
    Option("min_keep", int, 1, help="Components that every group keeps at least.", range=Range(1)),
    Option(
        "preprocess",
        "Preprocess",
        help="For a folder of images: 'mean=0.5;std=0.5;size=224;layout=NCHW'.",
        text="How the images of a folder become numbers; on the command line 'mean=0.5;std=0.5;size=224;layout=NCHW'.",
        typed=str,
    ),
    Option(
        "fold_batchnorm",
        bool,
        True,
        help="Do not fold batch normalisation into weights.",
        text="Fold batch norms into the weights before them first.",
        flag="--keep-batchnorm",
    ),
    Option(
        "reestimate_batchnorm",
        bool,
        help="Take the statistics of batch norms that are kept from --calib at the end; mode paper does.",
        text="Take the statistics of the batch norms that are left from the calibration inputs, once all else is done.",
        of_mode={"default": False, "paper": True},
    ),
    Option("threads", int, 0, help="Threads within an operator; 0 is the runtime's default.", range=Range(0)),
    Option(
        "bench_seconds",
        float,
        2.0,
        help="Time to spend on measuring latency.",
        text="Time to spend on measuring latency (:func:`modhifi_graph.latency.benchmark.bench`); 0: it is not measured.",
        range=Range(0),
    ),
    Option("batch", int, 1, help="Samples in each timed run.", range=Range(1)),
    Option(
        "device",
        str,
        help="Where a .pt2 is observed and repaired, as cpu or cuda.",
        text="Where a module is observed and repaired; where its parameters are, by default.",
    ),
    Option(
        "depth",
        bool,
        help="Let whole residual branches go too; by default with --speedup, --latency and --fidelity.",
        text="Let whole residual branches go as well, where that costs less than narrower layers. By default with ``speedup``, "
        "``latency`` and ``fidelity``: a layer that is gone saves more time than multiply-accumulates. Not with ``keep``.",
    ),
    Option(
        "mirror",
        bool,
        help="Calibrate on mirror images too; by default where small photographs are few.",
        text="Calibrate on the mirror image of each picture as well; by default where small photographs are few. "
        'Not in mode "paper".',
    ),
    Option(
        "prices",
        str,
        "output",
        help="What groups compete by: output, what the outputs lose, or local, what their streams lose.",
        text="By what groups compete: ``output``, what their removal does to the network's outputs, or ``local``, to the "
        'streams that they join, which costs no further forward passes. Not in mode "paper".',
        choices=PRICES,
    ),
)
"""In the order in which help and documents list them."""

AROUND = (
    Option(
        "dynamic_shapes",
        "dict or tuple",
        text="For a module, as :func:`torch.export.export` takes them; by default batches may have any size.",
        flag=None,
    ),
    Option("progress", "callable", text="Called as ``progress(stage, done, total)``.", flag=None),
)
"""What the job is given besides, which is no option of it."""

PARAMETERS = (*GIVEN, *OPTIONS, *AROUND)
"""All parameters of :func:`modhifi_graph.optimize`."""

BY_NAME = {option.name: option for option in PARAMETERS}
