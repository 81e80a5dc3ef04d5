"""Versions as Serve applications: each is one of its own, so that it comes and goes without the others."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, ReplicaState

from genloom_platform.serve.guard import MAX_REQUESTS
from genloom_platform.serve.plan import Condition
from genloom_platform.serve.replica import CAUSE, PREFIX, ModelReplica
from genloom_platform.serve.sources import Source
from genloom_platform.serve.wanted import Replicas, Served

GATEWAY = "genloom"
"""The application with the routes, and with the keeper."""
LONG_START_S = 60.0
LOOK_BACK_S = 15.0
STATES = {
    ApplicationStatus.RUNNING: "ready",
    ApplicationStatus.DEPLOY_FAILED: "failed",
    ApplicationStatus.DELETING: "ending",
}


def application(source: Source, served: Served) -> Any:
    """A version as Serve's `run_many` takes it."""
    options: dict[str, Any] = {
        "name": source.name,
        "ray_actor_options": {"num_cpus": served.cpus, "num_gpus": served.gpus},
        "max_ongoing_requests": MAX_REQUESTS,
        **_scale(served.replicas),
        # Without it whatever else changes would restart the replicas. `version` is told by the name already.
        "version": source.name,
        "_internal": True,
    }
    bound = ModelReplica.options(**options).bind(source.load, source.created, source.run, served.speed)
    return serve.RunTarget(target=bound, name=PREFIX + source.name, route_prefix=None)


def start(targets: Sequence[Any]) -> None:
    """Start applications, and wait for nothing."""
    serve.run_many(
        targets, wait_for_applications_running=False, wait_for_ingress_deployment_creation=False
    )


def end(version: str) -> None:
    """End a version's application, and wait for nothing."""
    serve.delete(PREFIX + version, _blocking=False)


def conditions(served: Mapping[str, Served]) -> dict[str, Condition]:
    """How the versions are that have been started.

    Args:
        served: How each was started, where that is known.
    """
    found = serve.status().applications
    return {
        version: _condition(version, status, served.get(version))
        for name, status in found.items()
        if (version := name.removeprefix(PREFIX)) != name
        and status.status != ApplicationStatus.NOT_STARTED
    }


def _condition(version: str, status: ApplicationStatusOverview, served: Served | None) -> Condition:
    deployment = status.deployments.get(version)
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
