"""Every machine of a cluster, looked at by itself: an actor on each, which takes nothing from what runs there."""

import os
import time
from collections.abc import Mapping
from typing import Any

from genloom_platform import cluster
from genloom_platform.doctor import clocks, machine, marks, ports, versions
from genloom_platform.doctor.findings import Finding, Report, Seen, finding, report
from genloom_platform.jobs import origin
from genloom_platform.store import Store

NODE_S = 240
"""How long the machines may take: a worker has to start on each, and a store that is away is tried again."""
CLOCK_S = 20
READINGS = 5
"""Of each clock: the quickest answer tells best."""


class Looker:
    """A machine of the cluster, as a worker there sees it."""

    def look(self, store: Store, folder: str, objects_bytes: int, head: bool) -> Seen:
        """All that can be told on this machine.

        Args:
            store: The head's.
            folder: Where the head has left its mark in the store.
            objects_bytes: What Ray's object store takes there.
            head: Whether it is the head.
        """
        import ray

        session: str = ray._private.worker._global_node.get_session_dir_path()  # type: ignore[attr-defined]
        seen = machine.look_at_engines(objects_bytes, session)
        found = [*seen.findings, *missing_secrets()]
        address = ray.util.get_node_ip_address()
        found += [] if head else [marks.check(store, folder, address)]
        more = {"findings": tuple(found), "address": address, "ports": ports.listening()}
        return seen.model_copy(update=more)

    def now(self) -> float:
        """What the machine's clock shows."""
        return time.time()


def examine() -> Report:
    """All machines of the cluster that RAY_ADDRESS names.

    Raises:
        GenloomError: It cannot be reached.
    """
    import ray
    from ray.exceptions import RayError

    cluster.connect()
    nodes = sorted(
        (node for node in ray.nodes() if node["Alive"]),
        key=lambda node: (not _is_head(node), node["NodeManagerAddress"]),
    )
    folder = marks.new_folder()
    store = Store()
    found = [marks.leave(store, folder).at(name(nodes[0]))]
    lookers = [_looker(node) for node in nodes]
    asked = [
        looker.look.remote(store, folder, _objects_bytes(node), _is_head(node))
        for looker, node in zip(lookers, nodes, strict=True)
    ]
    done, _ = ray.wait(asked, num_returns=len(asked), timeout=NODE_S)
    seen: list[Seen] = []
    for node, looker, answer in zip(nodes, lookers, asked, strict=True):
        if answer not in done:
            found.append(_silent(name(node), f"did not answer within {NODE_S} s"))
            continue
        try:
            one, more = _gather(node, looker, answer)
        except RayError as error:
            found.append(_silent(name(node), str(error).strip().splitlines()[-1]))
            continue
        seen.append(one)
        found += more
    marks.clear(store, folder)
    return report([*(versions.compare(seen) if seen else []), *found], seen)


def _gather(node: Mapping[str, Any], looker: Any, answer: Any) -> tuple[Seen, list[Finding]]:
    """What a machine saw of itself, with what is seen of it from here."""
    import ray

    where = name(node)
    one: Seen = ray.get(answer)
    own = [*one.findings, *_counted(one, node), *([] if _is_head(node) else [_clock(looker)])]
    knocked = ports.check(where, one.address, one.ports, stranger=False)
    return one.placed(where), [*(each.at(where) for each in own), *knocked]


def name(node: Mapping[str, Any]) -> str:
    """What a machine is called: its address, and whether it is the head."""
    return f"{node['NodeManagerAddress']}{' (head)' if _is_head(node) else ''}"


def _is_head(node: Mapping[str, Any]) -> bool:
    return "node:__internal_head__" in node["Resources"]


def _objects_bytes(node: Mapping[str, Any]) -> int:
    return int(node["Resources"].get("object_store_memory", 0))


def _looker(node: Mapping[str, Any]) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(num_cpus=0)(Looker).options(scheduling_strategy=pinned).remote()


def _silent(where: str, why: str) -> Finding:
    remedy = f"see that genloom-platform[engines] is installed there as on the head, and Ray's logs of {where}"
    return Finding(check="answers", where=where, well=False, seen=why, remedy=remedy)


def _counted(seen: Seen, node: Mapping[str, Any]) -> list[Finding]:
    """Whether Ray gives out as many GPUs as there are."""
    told = node["Resources"].get("GPU", 0)
    if told == seen.gpus:
        return []
    remedy = "start Ray there with --num-gpus, once nvidia-smi shows all of them"
    return [finding("GPUs", False, f"Ray gives out {told:g}, and the machine has {seen.gpus}", remedy)]


def _clock(looker: Any) -> Finding:
    """How far the clock of a machine is from this one's, to half of the quickest answer."""
    import ray

    readings: list[tuple[float, float]] = []
    for _ in range(READINGS):
        before = time.time()
        there = float(ray.get(looker.now.remote(), timeout=CLOCK_S))
        after = time.time()
        readings.append((after - before, there - (before + after) / 2))
    took_s, skew_s = min(readings)
    return clocks.skew("the head", skew_s, took_s / 2)


def missing_secrets() -> list[Finding]:
    """Whether this machine's environment has what the profile's `secrets` name; nothing where they name none."""
    wanted = os.environ.get(origin.SECRETS, "").split()
    missing = [each for each in wanted if not os.environ.get(each)]
    if not wanted:
        return []
    seen = f"no {', '.join(missing)} in the environment" if missing else f"{', '.join(wanted)} are set"
    remedy = "set them there before ray start, or as a secret of the pod"
    return [finding("secrets", not missing, seen, remedy)]
