"""Connecting to Ray: the cluster that the environment names, or one on this machine."""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genloom.errors import GenloomError, RequestError
from genloom_platform import autoscaling, tokens
from genloom_platform.environment import holding
from genloom_platform.jobs import origin

CPUS_FOR_DATA = 1
"""CPUs that are left to the data stream; without any, it would wait for ever, in silence."""
RAY_TRAIN = {
    # Seconds between two looks at the workers; by default 2, which all pass before a dead one is noticed.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # A process more to start for each attempt; `draining` sees the same.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Ray Train writes what a worker prints once more, as a line of its own log, into the same file.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    # As Ray Train sets it for its own actor: its controller waits within async code, and Ray would warn of it.
    "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0",
}
"""For attempts to start and end soon, and for a log that says everything once."""
IDLE_PER_SLOT = 4
"""Processes for each CPU slot of a cluster on this machine, up to which idle ones are kept."""
RAYS_OWN = (ConnectionError, RuntimeError, TimeoutError, ValueError)
"""What Ray raises where it cannot start or be reached, beside a bare Exception where its start takes too long."""
MIN_LOCAL_CPUS = 4
"""A cluster on this machine counts at least as many, so that two workers and the stream fit on a small one."""


def connect(cpus: float = 0, *, dashboard: bool = False) -> None:
    """Connect this process to Ray, once.

    RAY_ADDRESS names a cluster; without it one is started on this machine, closed to all but this user,
    that ends with this process. There, CPUs are slots and not cores: `cpus` more than the machine has
    are shared, which is right for trying things out.

    Args:
        cpus: What the work will ask for, with what the data stream needs.
        dashboard: Start Ray's dashboard too, on loopback and closed by the same token. Ray Train asks it who has
            died; without it, what a killed process had reserved stays reserved.

    Raises:
        GenloomError: The cluster cannot be reached.
    """
    _close()
    import ray

    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = os.environ.get("RAY_ADDRESS")
    polite_end = signal.getsignal(signal.SIGTERM)
    try:
        # Workers import what this interpreter has, whatever folder they start in, and share its token.
        if address:
            told = _told_by_the_job()
            carried = {name: value for name, value in environment().items() if name not in told}
            ray.init(address=address, runtime_env={"env_vars": carried}, **quiet)
        else:
            slots = max(os.cpu_count() or 1, MIN_LOCAL_CPUS, int(cpus) + CPUS_FOR_DATA)
            # Or Ray ends every process that has nothing to do, with all that it has imported.
            system = {"num_workers_soft_limit": IDLE_PER_SLOT * slots}
            # Inherited, and not a `runtime_env`: the processes with which Ray starts have none, and each worker
            # that has one would start anew.
            with holding(environment()):
                ray.init(
                    num_cpus=slots,
                    include_dashboard=dashboard,
                    _node_ip_address="127.0.0.1",
                    _system_config=system,
                    **quiet,
                )
    except Exception as error:
        if type(error) is not Exception and not isinstance(error, RAYS_OWN):
            raise
        raise GenloomError(_unreachable(error, address)) from error
    if threading.current_thread() is threading.main_thread():
        # Ray takes SIGTERM for itself, and prints a stack on the terminal when it comes.
        signal.signal(signal.SIGTERM, polite_end)


def starts_here() -> bool:
    """Whether `connect` would start a cluster on this machine."""
    ray = sys.modules.get("ray")
    return "RAY_ADDRESS" not in os.environ and not (ray and ray.is_initialized())


def machine_bytes() -> int:
    """The memory of this machine, or of the container that this process is in."""
    _close()  # Ray is imported
    from ray._common.utils import get_system_memory

    return get_system_memory()


def _unreachable(error: Exception, address: str | None) -> str:
    """That there is no cluster, why, and what to do."""
    if address:
        return f"cannot reach the cluster at {address}: {error}; see genloom doctor"
    if "timed out" not in str(error).lower():
        return f"cannot start a cluster on this machine: {error}; see genloom doctor"
    busy, cores = os.getloadavg()[0], os.cpu_count() or 1
    return (
        f"Ray did not start on this machine within the time that it gives itself; in the last minute "
        f"{busy:.1f} processes wanted its {cores} cores: try again when less runs here, or name a cluster in "
        f"RAY_ADDRESS (Ray: {error})"
    )


def require(cpus: float, gpus: float, patience_s: float | None = None) -> None:
    """Raise RequestError where the cluster cannot give what a run asks for, and CPUs for its data.

    Args:
        cpus: That it asks for.
        gpus: That it asks for.
        patience_s: How long machines may take that are still to come; as its job says where None.
    """
    until = time.monotonic() + (origin.patience_s() if patience_s is None else patience_s)
    while True:
        try:
            return _require(cpus, gpus)
        except RequestError:
            if time.monotonic() > until:
                raise
        time.sleep(1)


def _require(cpus: float, gpus: float) -> None:
    import ray

    most = autoscaling.total(autoscaling.machines())
    if fault := lacking(cpus + CPUS_FOR_DATA, gpus, ray.cluster_resources(), most):
        raise RequestError(fault)


def lacking(cpus: float, gpus: float, total: Mapping[str, float], most: Mapping[str, float]) -> str:
    """What a cluster cannot give a run, what it has, and what could bring more; nothing where it can.

    Args:
        cpus: What the run asks for, with its data's.
        gpus: What the run asks for.
        total: What the cluster has, by kind.
        most: What its autoscaler can bring it to; empty where it has none.
    """
    has = ", ".join(f"{total.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU"))
    for kind, wanted, of_them in (("CPU", cpus, f" ({CPUS_FOR_DATA} for its data)"), ("GPU", gpus, "")):
        if wanted <= max(total.get(kind, 0), most.get(kind, 0)):
            continue
        each = f"scale.{kind.lower()}s_per_worker"
        if most.get(kind, 0) > total.get(kind, 0):
            brings = f"its autoscaler can bring it to {most[kind]:g} {kind}s: raise max_workers there"
        elif most:
            brings = f"its autoscaler brings no more {kind}s: give it workers that have them"
        else:
            brings = "it has no autoscaler to bring more: add nodes"
        lower = f"lower scale.workers or {each}"
        if kind == "GPU" and not total.get(kind, 0) and not most.get(kind, 0):
            lower = f"give {each}=0"  # fewer workers would not fit either
        return f"the run asks for {wanted:g} {kind}s{of_them}, and the cluster has {has}; {brings}, or {lower}"
    return ""


def require_node(cpus: float, gpus: float) -> None:
    """Raise RequestError where no machine that the cluster has, or could have, has room for one such worker."""
    found = nodes()
    if any(each.get("CPU", 0) >= cpus and each.get("GPU", 0) >= gpus for each in found):
        return
    most = " and ".join(
        f"{max(each.get(kind, 0) for each in found):g} {kind}s" for kind in ("CPU", "GPU")
    )
    raise RequestError(
        f"a worker asks for {cpus:g} CPUs and {gpus:g} GPUs on one machine, and the cluster neither has nor can "
        f"get such a one: the most of a machine are {most}; lower scale.cpus_per_worker or scale.gpus_per_worker"
    )


def slots(cpus: float, gpus: float, *, running: bool = False) -> int:
    """How many workers the cluster has room for, each of which takes so much of one node.

    Nodes that are about to go count for nothing, and one CPU is left to the data stream.

    Args:
        cpus: Of a worker.
        gpus: Of a worker.
        running: Whether some of them run already; they are counted. Their data stream takes whatever CPUs
            are free, so then all that the nodes have is counted, what others take included.
    """
    import ray

    leaving = draining()
    per_node: dict[str, Mapping[str, float]]
    if running:
        per_node = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    else:
        per_node = ray._private.state.available_resources_per_node()  # type: ignore[attr-defined]
    return room([found for node, found in per_node.items() if node not in leaving], cpus, gpus)


def room(machines: Sequence[Mapping[str, float]], cpus: float, gpus: float) -> int:
    """How many workers have room on machines, each of which takes so much of one, with a CPU for their data."""
    workers = sum(fitting(each, cpus, gpus) for each in machines)
    spare = sum(each.get("CPU", 0) for each in machines) - workers * cpus
    return workers if spare >= CPUS_FOR_DATA or not workers else workers - 1


def slots_of_a_node(cpus: float, gpus: float) -> int:
    """How many workers the largest node has room for when nothing else runs there; 1 at least."""
    return max([1, *(fitting(each, cpus, gpus) for each in nodes())])


def nodes() -> list[Mapping[str, float]]:
    """What each node has that the cluster has, or that its autoscaler can bring."""
    import ray

    return [*(node["Resources"] for node in ray.nodes() if node["Alive"]), *autoscaling.machines()]


def fitting(found: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many workers, each of which takes so many CPUs and GPUs, some resources are enough for."""
    counts = [found.get(kind, 0) // each for kind, each in (("CPU", cpus), ("GPU", gpus)) if each]
    return int(min(counts, default=0))


def draining() -> set[str]:
    """The nodes that have been told to go: a spot machine, or one that the autoscaler takes away."""
    import ray

    return set(ray._private.state.state.get_draining_nodes() or {})  # type: ignore[attr-defined]


def environment() -> dict[str, str]:
    """What the environment of a worker needs beyond its node's own, or that of another process than this."""
    wanted = ("GENLOOM_STORE", "GENLOOM_TRACKING", "AWS_ENDPOINT_URL", "AWS_REGION", "PYTHONPATH")
    train = {name: value for name, value in os.environ.items() if name.startswith("RAY_TRAIN_")}
    carried = {
        **RAY_TRAIN,
        **train,
        **{name: os.environ[name] for name in wanted if name in os.environ},
    }
    if "RAY_ADDRESS" in os.environ:
        return carried  # each node has a path of its own, and DeepSpeed sees there what it runs on
    # DeepSpeed looks for ninja on the path, and it lies beside this interpreter.
    carried["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {"DS_ACCELERATOR": "cpu", **carried} if not _has_gpu() else carried


def _told_by_the_job() -> set[str]:
    """The variables that the job whose command this is gave to all its workers; Ray takes none of them twice.

    Of a job's PYTHONPATH a part is the folder that Ray made on this machine for the plugin that came along: it
    makes its own on each.
    """
    told = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    if not told:
        return set()
    return {"PYTHONPATH", *(told.get("runtime_env") or {}).get("env_vars", {})}


def _has_gpu() -> bool:
    return sys.platform == "linux" and Path("/proc/driver/nvidia").exists()


def _close() -> None:
    """Ask Ray for token authentication, with a token that only this user can read."""
    if "ray" not in sys.modules:
        # Ray reads its mode when it is imported; set later, its servers and this process would disagree.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return
    tokens.make(Path.home() / ".ray" / "auth_token")
