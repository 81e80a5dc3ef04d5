"""Versions as Serve applications: each is one of its own, so that it comes and goes without the others."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, ReplicaState

from genloom_platform.serve.guard import MAX_REQUESTS
from genloom_platform.serve.handles import POOL_PREFIX, PREFIX
from genloom_platform.serve.plan import Condition
from genloom_platform.serve.pool import ModelPool
from genloom_platform.serve.replica import CAUSE, ModelReplica
from genloom_platform.serve.sources import Shelf, Source
from genloom_platform.serve.speed import Speed
from genloom_platform.serve.wanted import Pool, Replicas, Room, Served

GATEWAY = "genloom"
"""The application with the routes, and with the keeper."""
LONG_START_S = 60.0
LOOK_BACK_S = 15.0
STATES = {
    ApplicationStatus.RUNNING: "ready",
    ApplicationStatus.DEPLOY_FAILED: "failed",
    ApplicationStatus.DELETING: "ending",
}


def applications(
    needed: Mapping[str, Served], sources: Mapping[str, Source], pools: Mapping[str, Pool], shelf: Shelf
) -> list[Any]:
    """Versions and pools as Serve's `run_many` takes them; a version in a pool needs nothing of its own.

    Args:
        needed: The versions, and how each is served.
        sources: Where each comes from.
        pools: The pools.
        shelf: Where the models of pools are looked up.
    """
    alone = {version: served for version, served in needed.items() if served.pool is None}
    versions = [_of_version(sources[version], served) for version, served in alone.items()]
    return [*versions, *(_of_pool(name, pool, shelf) for name, pool in pools.items())]


def _of_version(source: Source, served: Served) -> Any:
    speed = _placed(served)
    options = _options(source.name, served)
    bound = ModelReplica.options(**options).bind(source.load, source.created, source.run, speed)
    return serve.RunTarget(target=bound, name=PREFIX + source.name, route_prefix=None)


def _of_pool(name: str, pool: Pool, shelf: Shelf) -> Any:
    bound = ModelPool.options(**_options(name, pool)).bind(name, shelf, pool.hold, _placed(pool))
    return serve.RunTarget(target=bound, name=POOL_PREFIX + name, route_prefix=None)


def _options(name: str, room: Room) -> dict[str, Any]:
    # Without `version` whatever changes would restart the replicas; it tells what they cannot change in.
    fixed = room.speed.model_dump_json() + (f" {room.hold}" if isinstance(room, Pool) else "")
    return {
        "name": name,
        "ray_actor_options": {
            "num_cpus": room.cpus,
            "num_gpus": room.gpus,
            "resources": room.resources,
        },
        "max_ongoing_requests": MAX_REQUESTS,
        **_scale(room.replicas),
        "version": f"{name} {fixed}",
        "_internal": True,
    }


def _placed(room: Room) -> Speed:
    """Its speed; with a GPU it is one that must be there, and no CPU takes its place in silence."""
    if room.gpus and room.speed.device == "auto":
        return room.speed.model_copy(update={"device": "cuda"})
    return room.speed


def start(targets: Sequence[Any]) -> None:
    """Start applications, and wait for nothing."""
    serve.run_many(
        targets, wait_for_applications_running=False, wait_for_ingress_deployment_creation=False
    )


def end(version: str) -> None:
    """End a version's application, and wait for nothing."""
    serve.delete(PREFIX + version, _blocking=False)


def end_pool(name: str) -> None:
    """End a pool's application, and wait for nothing."""
    serve.delete(POOL_PREFIX + name, _blocking=False)


def conditions(served: Mapping[str, Served]) -> dict[str, Condition]:
    """How the versions are that have been started.

    Args:
        served: How each was started, where that is known.
    """
    found = {
        name: status
        for name, status in serve.status().applications.items()
        if status.status != ApplicationStatus.NOT_STARTED
    }
    alone = {
        version: _condition(version, status, served.get(version))
        for name, status in found.items()
        if (version := name.removeprefix(PREFIX)) != name
    }
    shared = {
        version: _condition(each.pool, found[POOL_PREFIX + each.pool], each)
        for version, each in served.items()
        if each.pool is not None and POOL_PREFIX + each.pool in found
    }
    return alone | shared


def _condition(name: str, status: ApplicationStatusOverview, served: Served | None) -> Condition:
    """How a version is, or a pool."""
    deployment = status.deployments.get(name)
    state: Any = STATES.get(status.status, "starting")
    fault = deployment.message if deployment else status.message
    why = ""
    if state == "failed":
        why = reason(fault or status.message)
    elif state == "starting" and time.time() - status.last_deployed_time_s > LONG_START_S:
        why = f"it has been starting for over {LONG_START_S:.0f} s; genloom doctor shows what is free"
    replicas = deployment.replica_states.get(ReplicaState.RUNNING, 0) if deployment else 0
    return Condition(state, replicas, why, status.last_deployed_time_s, served)


def reason(fault: str) -> str:
    """Why a version does not run: of a traceback, what the exception at its end says."""
    return fault.strip().rpartition("\n")[2].rpartition(CAUSE)[2]


def _scale(replicas: Replicas) -> dict[str, Any]:
    if replicas.min == replicas.max:
        return {"num_replicas": replicas.max}
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=replicas.min,
            # One at first, also where there may be none: to see that it can be loaded.
            initial_replicas=max(1, replicas.min),
            max_replicas=replicas.max,
            target_ongoing_requests=replicas.target,
            upscale_delay_s=replicas.up_s,
            downscale_delay_s=replicas.down_s,
            downscale_to_zero_delay_s=replicas.idle_s,
            look_back_period_s=LOOK_BACK_S,
            policy=AutoscalingPolicy(policy_function="genloom_platform.serve.scaling:by_requests"),
        )
    }
