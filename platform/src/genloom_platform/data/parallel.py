"""Work in numbered pieces: in this process where it is little, else on the cluster by Ray Data.

A piece leaves its result in the store; what comes back is only that it is done.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any

from genloom.errors import GenloomError

Piece = Callable[[Any, int], Any]
"""Does one piece of a job, by its number; doing it again costs nothing."""


def run(piece: Piece, job: Any, count: int, on_cluster: bool) -> Iterator[Any]:
    """The results of all pieces, each as soon as it is there.

    Raises:
        GenloomError: What a piece raised.
    """
    if not on_cluster or count == 0:
        for number in range(count):
            yield piece(job, number)
        return
    import ray
    import ray.data

    from genloom_platform import cluster

    cluster.connect()
    shared = ray.put(job)

    def work(row: dict[str, Any]) -> dict[str, Any]:
        piece(ray.get(shared), int(row["item"]))
        return row

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells of every plan and its end
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    numbers = ray.data.from_items(list(range(count)), override_num_blocks=count)
    try:
        for row in numbers.map(work, num_cpus=1).iter_rows():
            yield piece(job, int(row["item"]))
    except Exception as error:
        raise _own(error) or error from error


def _own(error: BaseException | None) -> GenloomError | None:
    """The error of ours behind one of Ray's."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, GenloomError):
            return error
        seen.add(id(error))
        error = getattr(error, "cause", None) or error.__cause__
    return None
