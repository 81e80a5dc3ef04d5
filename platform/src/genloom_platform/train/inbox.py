"""The way from the workers to the driver: reports one way, a wish to stop the other."""

from typing import Any, NamedTuple


class Report(NamedTuple):
    """What rank 0 says after a few steps."""

    step: int
    """Steps done."""
    metrics: list[dict[str, float]]
    """Of each step since the last report."""
    rows_per_s: float


class Inbox:
    """An actor that the driver empties."""

    def __init__(self) -> None:
        self._reports: list[Report] = []
        self._stop = False

    def put(self, step: int, metrics: list[dict[str, float]], rows_per_s: float) -> bool:
        """Leave a report; returns whether the driver wishes to stop."""
        self._reports.append(Report(step, metrics, rows_per_s))
        return self._stop

    def take(self) -> list[Report]:
        """All reports since the last call."""
        taken, self._reports = self._reports, []
        return taken

    def stop(self) -> None:
        """Ask the run to save and end."""
        self._stop = True


def start_inbox() -> Any:
    """An inbox on the node of this process."""
    import ray

    return ray.remote(num_cpus=0)(Inbox).remote()
