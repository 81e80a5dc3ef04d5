"""Room for trials: how many the cluster can run at a time, and what each asks of it."""

import os
from typing import Any

from ray import tune

from genloom.errors import RequestError
from genloom_platform import autoscaling, cluster
from genloom_platform.config import Scale
from genloom_platform.sweep import schedulers
from genloom_platform.sweep.plan import Plan
from genloom_platform.sweep.training import runs_alone

HEAD_CPUS = 0.001
"""What the process of a trial takes whose work is done by a group of others: Ray asks for something."""


def connect(plan: Plan) -> int:
    """Connect to Ray; returns how many trials run at a time.

    Raises:
        RequestError: There is no room for one.
    """
    scale, wanted = plan.base.scale, plan.config.concurrent
    cores = os.cpu_count() or 1
    local = max(
        1, int(cores // _cpus(scale))
    )  # a cluster on this machine counts slots, of which it has more
    most = min(wanted or local, plan.trials)
    cluster.connect(most * _cpus(scale), dashboard=not runs_alone(plan.base))
    if runs_alone(plan.base):
        cluster.require(max(0.0, _cpus(scale) - cluster.CPUS_FOR_DATA), 0)
    else:
        cluster.require(scale.fewest * scale.cpus_per_worker, scale.fewest * scale.gpus_per_worker)
    there = max(1, _room(plan))
    if wanted is None and "RAY_ADDRESS" not in os.environ:
        there = min(there, local)
    return min(there, wanted or there, plan.trials)


def request(plan: Plan, concurrent: int) -> tune.PlacementGroupFactory:
    """What a trial's process reserves.

    A scheduler that pauses trials must have all of them, so their number cannot be bounded; what can is how many
    fit the cluster, by the memory that each claims.
    """
    scale = plan.base.scale
    bundle: dict[str, float] = {"CPU": scale.cpus_per_worker if runs_alone(plan.base) else HEAD_CPUS}
    if schedulers.pauses(plan):
        bundle["memory"] = share_of_memory(_memory(), concurrent)
    return tune.PlacementGroupFactory([bundle])


def share_of_memory(nodes: list[float], concurrent: int) -> float:
    """The claim by which so many trials fit the nodes, and no more.

    Raises:
        RequestError: There are more nodes than trials that may run, and each has room for one.
    """
    for parts in range(concurrent, 0, -1):
        claim = float(int(max(nodes) / parts))
        if sum(int(node // claim) for node in nodes) <= concurrent:
            return claim
    raise RequestError(
        f"with pbt and hyperband every one of the cluster's {len(nodes)} nodes may run a trial; "
        f"give concurrent={len(nodes)} or more, or another scheduler"
    )


def _cpus(scale: Scale) -> float:
    return scale.most * scale.cpus_per_worker


def _room(plan: Plan) -> int:
    """How many trials have room at a time, on the nodes that there are or on those that may come."""
    scale, more = plan.base.scale, autoscaling.machines()
    if runs_alone(plan.base):
        return max(
            sum(cluster.fitting(node, scale.cpus_per_worker, 0) for node in nodes)
            for nodes in (_nodes(), more)
        )
    now = cluster.slots(scale.cpus_per_worker, scale.gpus_per_worker)
    return max(now, cluster.room(more, scale.cpus_per_worker, scale.gpus_per_worker)) // scale.most


def _memory() -> list[float]:
    return [found["memory"] for found in _nodes() if found.get("memory")]


def _nodes() -> list[dict[str, Any]]:
    """The resources of each node that lives and stays."""
    import ray

    leaving = cluster.draining()
    return [n["Resources"] for n in ray.nodes() if n["Alive"] and n["NodeID"] not in leaving]
