"""Chains: linear maps that follow one another with nothing between them but activations, as in the branch of a block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modhifi_graph.graph import Graph, Op, Value
from modhifi_graph.observe.pointwise import Region, is_pointwise, region
from modhifi_graph.observe.sites import Site, channel_axis, readers_of


@dataclass(frozen=True, eq=False)
class Chain:
    """Sites in order and the activations between them, one fewer; only the last one's output matters to anybody else."""

    sites: tuple[Site, ...]
    regions: tuple[Region, ...]

    @property
    def others(self) -> tuple[Value, ...]:
        """Activations from elsewhere that the regions read."""
        return tuple(dict.fromkeys(v for between in self.regions for v in between.others))


def chains(graph: Graph, found: Sequence[Site]) -> tuple[Chain, ...]:
    """The longest chains of two and more among the sites of a graph, in order of their first sites."""
    readers, place = readers_of(graph), {op: i for i, op in enumerate(graph.ops)}
    made_by = {value: op for op in graph.ops for value in op.outputs}
    by_output = {site.output: site for site in found if site.stream is None and site.output not in graph.outputs}
    after: dict[Site, tuple[Site, Region]] = {}
    for follower in found:
        end = follower.consumer.x
        if readers.get(end) == [follower.consumer.op]:
            for start in _starts(end, made_by, by_output):
                between = region(start, end, readers, place) if _joined(by_output[start], follower) else None
                if between is not None and not any(v in graph.outputs for op in between.ops for v in op.outputs):
                    after[by_output[start]] = follower, between
    followers = {follower for follower, _ in after.values()}
    return tuple(_from(site, after) for site in found if site in after and site not in followers)


def _joined(start: Site, follower: Site) -> bool:
    """Whether one map reads the channels that the other gives, and each matrix of a stack those of its own."""
    axis = channel_axis(start.consumer) % (start.consumer.y.rank or 1)
    return axis == follower.consumer.contraction.axis and start.consumer.stacked == follower.consumer.stacked


def _starts(end: Value, made_by: Mapping[Value, Op], by_output: Mapping[Value, Site]) -> list[Value]:
    """The outputs of sites from which activations alone lead to ``end``."""
    starts, seen, pending = list[Value](), {end}, [end]
    while pending:
        value = pending.pop()
        if value in by_output:
            starts.append(value)
        elif value in made_by and is_pointwise(made_by[value]):
            fresh = [v for v in made_by[value].inputs if v is not None and not v.is_constant and v not in seen]
            seen.update(fresh)
            pending.extend(fresh)
    return starts


def _from(site: Site, after: Mapping[Site, tuple[Site, Region]]) -> Chain:
    sites, regions = [site], list[Region]()
    while sites[-1] in after:
        follower, between = after[sites[-1]]
        sites.append(follower)
        regions.append(between)
    return Chain(tuple(sites), tuple(regions))
