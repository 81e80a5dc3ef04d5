"""Ray Train's controller, kept from attempt to attempt: to start one takes seconds in which nothing trains."""

import contextlib
from collections.abc import Callable
from typing import Any

import ray
import ray.exceptions
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.util.placement_group import get_placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_idle: dict[str, list[Any]] = {}
"""The controllers of this process that have no run now, by the name under which a cluster knows the process."""


class Controller:
    """An actor that runs one controller of Ray Train's after the other."""

    async def run(self, name: str, options: dict[str, Any]) -> Any:
        """See a group of workers through; what Ray Train's own actor is told comes in, its result goes out.

        Args:
            name: What their reserved resources are known by, for `free`.
            options: For Ray Train's controller.
        """
        from ray.train.v2._internal.execution import worker_group
        from ray.train.v2._internal.execution.controller import TrainController
        from ray.train.v2._internal.execution.worker_group import placement_group_handle

        class Workers(worker_group.WorkerGroup):
            # As Ray Train's own, with a name.
            def _create_placement_group(self, scaling_config: Any, worker_group_context: Any) -> Any:
                asked = worker_group_context
                return placement_group_handle.DefaultPlacementGroupHandle(
                    ray.util.placement_group(
                        [asked.resources_per_worker] * asked.num_workers,
                        asked.placement_strategy,
                        name=name,
                    )
                )

        class Named(TrainController):
            worker_group_cls = Workers

        controller = Named(**options)
        await controller.run()
        return controller.get_result()


class Trainer(TorchTrainer):
    """Ray Train's trainer, whose controller is there already."""

    def __init__(self, controller: Any, name: str, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._controller, self._name = controller, name

    def _create_default_callbacks(self) -> list[Any]:
        # One starts an actor for datasets, of which this trainer is given none.
        unneeded: tuple[type[Any], ...] = (DatasetsCallback,)
        if ray.get_runtime_context().get_actor_id() is None:
            # Another starts one that gives back what workers had reserved, as `free` does. A trial of a sweep
            # keeps it: its process may be killed while the sweep goes on.
            unneeded += (PlacementGroupCleanerCallback,)
        return [each for each in super()._create_default_callbacks() if not isinstance(each, unneeded)]

    def _initialize_and_run_controller(self, **options: Any) -> Any:
        return ray.get(self._controller.run.remote(self._name, options))


def take() -> Any:
    """A controller on the node of this process: one that is idle, or a new one, which starts meanwhile."""
    try:
        return living(_idle[ray.get_runtime_context().get_worker_id()].pop(), start)
    except LookupError:
        return start()


def living(actor: Any, start_another: Callable[[], Any]) -> Any:
    """The actor, or another where it has died."""
    try:
        ray.get(actor.__ray_ready__.remote())
        return actor
    except ray.exceptions.RayActorError:
        return start_another()


def give_back(controller: Any) -> None:
    """The run that had it has ended."""
    _idle.setdefault(ray.get_runtime_context().get_worker_id(), []).append(controller)


def end(controller: Any, name: str) -> None:
    """End a controller at once, and its workers with it, whatever state they are in."""
    ray.kill(controller)
    free(name)


def placed(name: str) -> bool:
    """Whether what workers asked for under a name has been reserved, so that they can start."""
    try:
        return placement_group_table(get_placement_group(name))["state"] == "CREATED"
    except ValueError:
        return False  # not asked for yet, or given back


def free(name: str) -> None:
    """Give back what workers had reserved under a name.

    Ray Train does, but where its controller has died: then it stays reserved, and its processes stay, for as
    long as this process lives.
    """
    with contextlib.suppress(ValueError):  # it has been given back
        remove_placement_group(get_placement_group(name))


def start() -> Any:
    """A new controller."""
    # None that Ray would start again: it would know nothing of what it did.
    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Controller).remote()
