"""A job: a command that runs, or ran, on a cluster. It belongs to the cluster; who asks may come and go."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from genloom.errors import ClusterError, RequestError, UnknownName
from genloom_platform.jobs.client import Cluster, Unreachable

ASKS = "genloom_asks"
"""The key that marks a job which only asks something of the cluster, for a handle; lists leave it out."""
NAME = "genloom_job"
"""The key of a job's metadata that holds its id: Ray's own has a number for every time that it was started."""
PATIENCE_S = 600
"""How long a cluster may be silent while a job is watched."""
FORGOTTEN_S = 60
"""How long a job that was there may be unknown: a head that was started anew starts its jobs again."""
LOST = ("JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE")
"""How Ray calls it when a job's machine has gone."""
STOPPED = 130
"""The exit status of a command that was interrupted."""
_LOOK_S = 20
"""Between two looks at a job whose log is silent."""


@dataclass(frozen=True)
class State:
    """How a job stands."""

    id: str
    submission: str
    """Its id in Ray."""
    word: str
    """pending, running, succeeded, failed, stopped."""
    command: str
    message: str
    exit_status: int | None
    """Its command's; None while it runs, and where it was never seen to end."""
    lost: bool
    """Whether it ended because its machine did."""
    started: float
    """Seconds since the epoch; 0 where it has not started."""
    ended: float
    metadata: dict[str, str]

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.word in ("succeeded", "failed", "stopped")


class Job:
    """A job of a cluster, by its id."""

    def __init__(self, cluster: Cluster, id: str) -> None:
        self.cluster, self.id = cluster, id
        self._submission = ""

    def state(self) -> State:
        """How it stands.

        Raises:
            UnknownName: The cluster has no such job, or none any more.
        """
        if self._submission:
            # Where Ray has forgotten it, it may have been started again.
            with contextlib.suppress(RuntimeError):
                state = _state(self.cluster.client.get_job_info(self._submission))
                if not state.lost:
                    return state
        state = find(self.cluster, self.id)
        self._submission = state.submission
        return state

    def wait(self, timeout_s: float | None = None) -> State:
        """Wait for its end; a cluster that is silent for a while is waited for.

        Raises:
            TimeoutError: It has not ended by then.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        state = _patiently(self.cluster, self.state, 0)
        while not state.over:
            if until and time.monotonic() > until:
                raise TimeoutError(f"the job {self.id} is still {state.word} after {timeout_s:g} s")
            time.sleep(1)
            state = _patiently(self.cluster, self.state, FORGOTTEN_S)
        return state

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """What its command prints, in pieces; with `follow`, until it ends.

        Raises:
            RequestError: The log has gone with the machine that held it.
        """
        state = self.state()
        if not follow:
            yield _log(self.cluster, state)
            return
        seen, submitted, patience = 0, (state.submission, state.started), _Patience()
        while True:
            try:
                for text in _tail(self.cluster, state.submission, seen):
                    seen += len(text)
                    patience.answered()
                    yield text
                state = self.state()
                patience.answered()
                if (state.submission, state.started) != submitted:  # started again: another log
                    seen, submitted = 0, (state.submission, state.started)
                elif state.over:
                    return
            except (Unreachable, UnknownName, _Dropped) as error:
                over = patience.ends_with(error)
                if over and isinstance(error, UnknownName):
                    raise
                if over:
                    raise ClusterError(
                        f"the cluster {self.cluster.profile.name} has been silent for {PATIENCE_S} s: "
                        f"{error}; the job may go on: genloom jobs logs --follow {self.id}"
                    ) from error
                self.cluster.close()
            time.sleep(1)

    def stop(self) -> State:
        """Ask its command to save and end, and wait until it has; errors as for `interrupt`."""
        self.interrupt()
        return self.wait()

    def interrupt(self) -> None:
        """Ask its command to save and end.

        Raises:
            UnknownName: The cluster has no such job, or none any more.
            RequestError: It has ended already.
        """
        state = self.state()
        if state.over:
            raise RequestError(
                f"the job {self.id} has ended already: it {ended(state)}; there is nothing to stop"
            )
        self.cluster.client.stop_job(state.submission)


def find(cluster: Cluster, id: str) -> State:
    """How a job stands: by its id, or Ray's.

    Raises:
        UnknownName: The cluster has no such job, or none any more.
    """
    states = list_jobs(cluster, again=True)
    for state in states:
        if id in (state.id, state.submission):
            return state
    known = {state.id for state in states}
    gone = "a cluster that was started anew has forgotten its jobs; the store has their runs: genloom runs list"
    raise UnknownName("job", id, known, gone)


def list_jobs(cluster: Cluster, *, again: bool = False) -> list[State]:
    """The jobs of a cluster, the newest first; each once, unless every time it was started is asked for."""
    found = [_state(info) for info in cluster.client.list_jobs() if info.submission_id]
    found.sort(key=lambda state: state.started, reverse=True)
    if again:
        return found
    shown = [state for state in found if ASKS not in state.metadata]
    return list({state.id: state for state in reversed(shown)}.values())[::-1]


def exit_status(state: State) -> int:
    """What the command's caller is told: its own status, 130 where it was stopped, 1 where it was lost."""
    if state.word == "stopped":
        return STOPPED
    status = 1 if state.exit_status is None else state.exit_status
    return 128 - status if status < 0 else status  # a shell's word for a signal


def ended(state: State) -> str:
    """How a job ended, as in "was stopped"."""
    if state.word == "stopped":
        return "was stopped"
    return "succeeded" if state.word == "succeeded" else f"failed with status {exit_status(state)}"


def _state(info: Any) -> State:
    metadata = info.metadata or {}
    return State(
        id=metadata.get(NAME, info.submission_id),
        submission=info.submission_id,
        word=str(info.status.value).lower(),
        command=info.entrypoint,
        message=(info.message or "").strip(),
        exit_status=info.driver_exit_code,
        lost=info.status.value == "FAILED"
        and info.driver_exit_code is None
        and info.error_type in LOST,
        started=(info.start_time or 0) / 1000,
        ended=(info.end_time or 0) / 1000,
        metadata=metadata,
    )


def _log(cluster: Cluster, state: State) -> str:
    try:
        text = str(cluster.client.get_job_logs(state.submission))
    except RuntimeError as error:
        raise _gone(state, error) from error
    if not text and state.over:
        raise _gone(state, None)
    return text


def _gone(state: State, error: RuntimeError | None) -> RequestError:
    why = f": {str(error).strip().splitlines()[-1]}" if error else ""
    told = f"; Ray says of the job: {state.message.splitlines()[0]}" if state.message else ""
    return RequestError(
        f"the log of the job {state.id} is gone with the machine that held it{why}{told}; what a run "
        "printed lies in the store: genloom runs logs RUN"
    )


class _Patience:
    """How long a cluster is waited for that is silent, or that has forgotten a job which it knew."""

    def __init__(self, forgotten_s: float = FORGOTTEN_S) -> None:
        self._forgotten_s = forgotten_s
        self._trouble: tuple[bool, float] | None = None  # whether the job is forgotten, and since when

    def answered(self) -> None:
        """All is well."""
        self._trouble = None

    def ends_with(self, error: Exception) -> bool:
        """Whether the trouble has lasted too long."""
        forgotten = isinstance(error, UnknownName)
        if self._trouble is None or self._trouble[0] != forgotten:
            self._trouble = forgotten, time.monotonic()
        patience_s = self._forgotten_s if forgotten else PATIENCE_S
        return time.monotonic() - self._trouble[1] > patience_s or not patience_s


class _Dropped(Exception):
    """A connection that ended in the middle."""


def _tail(cluster: Cluster, submission: str, skip: int) -> Generator[str]:
    """A log from its beginning, but for so many characters, until the job ends."""
    from anyio.from_thread import start_blocking_portal

    pieces = _pieces(cluster, submission)
    with start_blocking_portal() as portal:  # a thread's: in a notebook's own a loop is running
        while (text := portal.call(_next, pieces)) is not None:
            if new := text[skip:]:
                yield new
            skip = max(0, skip - len(text))


async def _next(pieces: AsyncGenerator[str]) -> str | None:
    return await anext(pieces, None)


async def _pieces(cluster: Cluster, submission: str) -> AsyncGenerator[str]:
    """Ray's own tail. It would wait for ever for a link that has gone, so a silent one is looked at."""
    import aiohttp

    client = cluster.client
    tail = client.tail_job_logs(submission)
    waiting: asyncio.Future[str] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(tail))
            done, _ = await asyncio.wait([waiting], timeout=_LOOK_S)
            if not done:
                try:
                    client.answer(f"/api/jobs/{submission}")
                except ClusterError as error:  # it is away, or knows the job no more
                    raise _Dropped(str(error)) from error
                continue
            try:
                text = waiting.result()
            except StopAsyncIteration:
                return
            except (RuntimeError, aiohttp.ClientError, OSError) as error:
                raise _Dropped(str(error) or type(error).__name__) from error
            waiting = None
            yield text
    finally:
        if waiting:
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await waiting
        await tail.aclose()


def _patiently(cluster: Cluster, ask: Callable[[], State], forgotten_s: float) -> State:
    """An answer, for which a silent cluster is waited for a while, and one that has forgotten the job."""
    patience = _Patience(forgotten_s)
    while True:
        try:
            return ask()
        except (Unreachable, UnknownName) as error:
            if patience.ends_with(error):
                raise
            cluster.close()
            time.sleep(2)
