"""Room for a run's workers: that they wait for it, and asking a cluster's autoscaler for it."""

import math
import time
from collections.abc import Callable

from genloom_platform import autoscaling, cluster
from genloom_platform.config import Scale

TOLD_S = 10.0
"""How long workers wait before it is told."""


class Notice:
    """Tells once, and not at once, that workers wait for room.

    Args:
        on_event: Called with the sentence.
    """

    def __init__(self, on_event: Callable[[str], None]) -> None:
        self._on_event, self._due = on_event, time.monotonic() + TOLD_S

    def waits(self, workers: int, scale: Scale) -> None:
        """So many workers wait still."""
        if time.monotonic() < self._due:
            return
        self._due = math.inf
        each = f"{scale.cpus_per_worker:g} CPU"
        each += f" and {scale.gpus_per_worker:g} GPU" if scale.gpus_per_worker else ""
        count = f"{workers} workers of {each} each" if workers > 1 else f"a worker of {each}"
        whom = "machines that the autoscaler brings" if autoscaling.machines() else "others to end"
        self._on_event(f"the cluster has no room for {count} now; the run waits for {whom}")


class Wish:
    """Room for workers that machines are to be brought for.

    An autoscaler goes by what waits for resources. A run with a range of workers takes what there is and waits
    for none, so it wishes where there is too little. Ray holds all of a wish as soon as it is there, until it is
    ended.
    """

    def __init__(self, workers: int, cpus: float, gpus: float) -> None:
        """Ask for it, and for its data stream's CPU.

        Args:
            workers: For how many, or for as many as the autoscaler can bring: it brings none for what never fits.
            cpus: Of a worker.
            gpus: Of a worker.
        """
        from ray.util import placement_group

        most = cluster.room(autoscaling.machines(), cpus, gpus)
        self.workers = min(workers, max(1, most))
        each = {kind: count for kind, count in (("CPU", cpus), ("GPU", gpus)) if count}
        self._group = placement_group([{"CPU": cluster.CPUS_FOR_DATA}, *[each] * self.workers])

    def has_come(self) -> bool:
        """Whether all of it is there."""
        return self._group.wait(0)

    def end(self) -> None:
        """Ask no more, and free what has come."""
        from ray.util import remove_placement_group

        remove_placement_group(self._group)
