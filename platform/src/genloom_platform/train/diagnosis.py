"""Diagnosis: what ended an attempt, by the errors that Ray Train ends with."""

from genloom.errors import GenloomError, StoreError
from genloom_platform.train.advice import to_lower_memory
from genloom_platform.train.failures import DamagedCheckpoint, NonFiniteLoss, line, out_of_memory
from genloom_platform.train.inbox import Place
from genloom_platform.train.recovery import Ending
from genloom_platform.train.worker import Job

LOST = (
    "gloo",
    "nccl",
    "connection closed by peer",
    "connection reset",
    "process group",
    "timed out waiting",
)
"""What the others say when a worker is gone."""


def explain(failure: BaseException, places: dict[int, Place]) -> tuple[Ending, str, BaseException]:
    """What kind of failure an error of Ray Train is, in a sentence, and the worker's own error."""
    import ray.exceptions
    from ray.train.v2._internal import exceptions as groups

    gone = (
        groups.WorkerHealthCheckFailedError, groups.WorkerHealthCheckTimeoutError,
        groups.WorkerGroupStartupFailedError, groups.WorkerGroupStartupTimeoutError,
        ray.exceptions.ActorDiedError, ray.exceptions.ActorUnavailableError,
        ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError,
    )  # fmt: skip
    causes: list[tuple[int | None, BaseException]] = [(None, failure)]
    for rank, cause in causes:
        inner = getattr(cause, "worker_failures", {}).items()
        also = [(rank, e) for e in (cause.__cause__, getattr(cause, "cause", None),
                                    getattr(cause, "controller_failure", None))]  # fmt: skip
        known = {id(each) for _, each in causes}
        causes += [
            (r, e) for r, e in [*inner, *also] if isinstance(e, BaseException) and id(e) not in known
        ]

    def first(*kinds: type[BaseException]) -> tuple[int | None, BaseException] | None:
        return next(((r, e) for r, e in causes if isinstance(e, kinds)), None)

    if found := first(DamagedCheckpoint):
        return "damaged checkpoint", str(found[1]), found[1]
    if found := first(NonFiniteLoss):
        return "not a number", str(found[1]), found[1]
    if found := first(StoreError):
        return "store away", str(found[1]), found[1]
    if found := first(GenloomError):
        return "error", str(found[1]), found[1]
    if found := next((each for each in reversed(causes) if out_of_memory(each[1])), None):
        who = "a worker" if found[0] is None else f"worker {found[0]}"
        return "out of memory", f"{who} ran out of memory: {line(found[1])}", found[1]
    if found := first(*gone):
        where = places.get(found[0]) if found[0] is not None else None
        at = f" (process {where.process})" if where else ""
        who = "the run's controller or inbox" if found[0] is None else f"worker {found[0]}{at}"
        return "worker died", f"{who} died", found[1]
    rank, cause = causes[-1]
    if any(word in str(cause).lower() for word in LOST):
        return "worker died", f"worker {rank} lost the others: {line(cause)}", cause
    return "error", f"{type(cause).__name__}: {line(cause)}", cause


def advice(job: Job) -> str:
    """What to lower for a run to fit its workers' memory."""
    from genloom_platform.train.sizes import size_of

    stream = job.stream()
    try:
        size = size_of(job.config, stream.trainable, stream.data, job.start)
    except Exception as error:
        if not out_of_memory(error):
            raise
        size = None  # this process has no room for the model either
    return to_lower_memory(job.config, size, job.workers)
