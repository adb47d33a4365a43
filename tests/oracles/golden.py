"""The groups that every architecture of the zoo has, written down once: what both dialects and all exporters must find.

`golden.json` holds for each model its groups by name, each as its size and kind. After a change that is meant:

$ python -m tests.oracles.golden        # writes the listing of the modules anew; read the difference before committing it
"""

from __future__ import annotations

import json
from pathlib import Path

from modhifi_graph.axes.groups import Groups
from tools import zoo

LISTING = Path(__file__).with_name("golden.json")

SEPARATE_TABLES = (
    "with fixed lengths every layer has a table of cosines of its own: their rotary dimensions need not agree"
)

MORE = {
    ("llama", "static"): ({"model.model.layers.1.self_attn.q_proj.weight/2": "4 head dims"}, SEPARATE_TABLES),
    ("mixtral", "static"): ({"model.model.layers.1.self_attn.q_proj.weight/2": "4 head dims"}, SEPARATE_TABLES),
}
"""What ONNX files have besides, and why."""


def listing(groups: Groups) -> dict[str, str]:
    """Every group by its name: its size and kind."""
    return {group.name: f"{group.size} {group.kind}" for group in groups.groups}


def expected(name: str) -> dict[str, str]:
    """The groups of a module of the zoo."""
    found: dict[str, str] = json.loads(LISTING.read_text())[name]
    return found


def expected_of_onnx(name: str, dynamic: bool) -> dict[str, str]:
    """The groups of its export."""
    more, _ = MORE.get((name, "dynamic" if dynamic else "static"), ({}, ""))
    return {**expected(name), **more}


def main() -> None:
    torch = zoo.import_torch()
    from modhifi_graph.axes.coupling import couple
    from modhifi_graph.axes.groups import find_groups
    from modhifi_graph.dialects.aten import lift
    from modhifi_graph.dialects.aten_module import functional

    found = {}
    for name in zoo.ZOO:
        inputs = tuple(map(torch.from_numpy, zoo.samples(name).values()))
        found[name] = listing(
            find_groups(couple(lift(functional(torch.export.export(zoo.module(name), inputs))).graph))
        )
        print(name, len(found[name]), flush=True)
    LISTING.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
