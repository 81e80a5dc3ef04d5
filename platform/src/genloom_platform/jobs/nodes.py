"""The machines of a cluster, and what it could have besides."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from genloom_platform.jobs.client import Cluster
from genloom_platform.profiles import Profile, WorkerType
from genloom_platform.units import size


@dataclass(frozen=True)
class Node:
    """A machine that is there."""

    address: str
    head: bool
    resources: dict[str, float]

    def __str__(self) -> str:
        memory = size(self.resources.get("memory", 0))
        kinds = ", ".join(f"{self.resources.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU"))
        return f"{self.address}: {kinds}, {memory} memory{' (head)' if self.head else ''}"


def nodes(cluster: Cluster) -> list[Node]:
    """The machines of a cluster, the head first."""
    listed: list[dict[str, Any]] = cluster.client.answer("/api/v0/nodes?detail=1&limit=1000")["data"][
        "result"
    ]["result"]
    found = [
        Node(each["node_ip"], bool(each.get("is_head_node")), each.get("resources_total") or {})
        for each in listed
        if each["state"] == "ALIVE"
    ]
    return sorted(found, key=lambda node: (not node.head, node.address))


def room(profile: Profile, found: Sequence[Node]) -> list[tuple[str, str]]:
    """What the machines have in all, and what the profile says the cluster can have, as lines to show."""
    total = ", ".join(
        f"{sum(node.resources.get(kind, 0) for node in found):g} {kind}s" for kind in ("CPU", "GPU")
    )
    lines = [("in all", total)]
    can = "\n".join(_can_have(name, kind) for name, kind in profile.workers.items())
    return [*lines, ("can have", can)] if can else lines


def _can_have(name: str, kind: WorkerType) -> str:
    gpus = (
        f", {kind.gpus:g} GPUs{f' ({kind.accelerator})' if kind.accelerator else ''}"
        if kind.gpus
        else ""
    )
    price = f", {kind.price_per_hour} an hour" if kind.price_per_hour else ""
    return f"{name}: at most {kind.most}, each {kind.cpus:g} CPUs{gpus}{', spot' if kind.spot else ''}{price}"
