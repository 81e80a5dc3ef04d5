"""Whether a cluster has room for a replica: where no node is large enough for it, it would wait for ever."""

from collections.abc import Mapping, Sequence

from genloom.errors import RequestError
from genloom_platform import cluster
from genloom_platform.autoscaling import Resources
from genloom_platform.serve.wanted import Room, Wanted


def check(asked: Wanted) -> None:
    """Raise RequestError where no node that the cluster has or can have holds a replica of what is wanted."""
    if fault := lacking(rooms(asked), cluster.nodes()):
        raise RequestError(fault)


def rooms(asked: Wanted) -> dict[str, Room]:
    """The models and pools that have processes of their own."""
    found: dict[str, Room] = {each.model: each for each in asked.models if each.pool is None}
    found.update({f"pools.{name}": pool for name, pool in asked.pools.items()})
    return found


def lacking(rooms: Mapping[str, Room], nodes: Sequence[Resources]) -> str | None:
    """What is wrong, in words; None where each replica has a node that can hold it.

    Args:
        rooms: What a replica takes, by whose it is.
        nodes: What each node has that the cluster has or can have.
    """
    for whose, room in rooms.items():
        wanted = {"CPU": room.cpus, "GPU": room.gpus, **room.resources}
        wanted = {kind: number for kind, number in wanted.items() if number}
        if any(_holds(node, wanted) for node in nodes):
            continue
        takes = ", ".join(f"{number:g} {kind}" for kind, number in wanted.items())
        largest = {kind: max((node.get(kind, 0) for node in nodes), default=0) for kind in wanted}
        has = ", ".join(f"{number:g} {kind}" for kind, number in largest.items())
        return (
            f"{whose}: a replica takes {takes} of one node, and no node has that (at most {has}); ask for less, "
            f"or add such a node"
        )
    return None


def _holds(node: Resources, wanted: Resources) -> bool:
    return all(node.get(kind, 0) >= number for kind, number in wanted.items())
