"""Ray Train's controller, kept from attempt to attempt: to start one takes seconds in which nothing trains."""

from typing import Any

import ray
import ray.exceptions
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_idle: dict[str, list[Any]] = {}
"""The controllers of this process that have no run now, by the name under which a cluster knows the process."""


class Controller:
    """An actor that runs one controller of Ray Train's after the other."""

    def there(self) -> None:
        """Answers where the actor lives."""

    async def run(self, options: dict[str, Any]) -> Any:
        """See a group of workers through; what Ray Train's own actor is told comes in, its result goes out."""
        from ray.train.v2._internal.execution.controller import TrainController

        controller = TrainController(**options)
        await controller.run()
        return controller.get_result()


class Trainer(TorchTrainer):
    """Ray Train's trainer, whose controller is there already."""

    def __init__(self, controller: Any, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._controller = controller

    def _create_default_callbacks(self) -> list[Any]:
        # One starts an actor for datasets, of which this trainer is given none.
        found = super()._create_default_callbacks()
        return [each for each in found if not isinstance(each, DatasetsCallback)]

    def _initialize_and_run_controller(self, **options: Any) -> Any:
        return ray.get(self._controller.run.remote(options))


def take() -> Any:
    """A controller on the node of this process: one that is idle, or a new one, which starts meanwhile."""
    try:
        return living(_idle[ray.get_runtime_context().get_worker_id()].pop())
    except LookupError:
        return _new()


def living(controller: Any) -> Any:
    """The controller, or a new one where it has died."""
    try:
        ray.get(controller.there.remote())
        return controller
    except ray.exceptions.RayActorError:
        return _new()


def give_back(controller: Any) -> None:
    """The run that had it has ended."""
    _idle.setdefault(ray.get_runtime_context().get_worker_id(), []).append(controller)


def _new() -> Any:
    # None that Ray would start again: Ray Train's cleaner frees what it had reserved once it is dead.
    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Controller).remote()
