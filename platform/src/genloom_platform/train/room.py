"""Asking a cluster's autoscaler for room."""

from genloom_platform import autoscaling, cluster


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
