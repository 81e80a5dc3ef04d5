"""What is started on a cluster, in team code: jobs as runs, sweeps and endpoints, shown in a notebook too."""

import json
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import genloom
from genloom.errors import ClusterError, EndpointError, RequestError
from genloom_platform.jobs import card, served
from genloom_platform.jobs.job import Job, State, exit_status
from genloom_platform.jobs.submit import new_id, submit

SERVING = "serving "
"""How the line of `genloom serve` begins that says where its models answer."""
ANSWERS_S = 120
"""How long what serves may be silent at its address, before that is taken for another's."""
TAIL = 12
"""Lines of a failed job's log that its error tells."""


class RemoteJob:
    """A job, and what its command makes."""

    kind = "job"

    def __init__(self, job: Job) -> None:
        self.job = job
        self.name = job.id

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name} on {self.job.cluster.profile.name}>"

    def _repr_html_(self) -> str:
        return card.html(self.job)

    @property
    def state(self) -> str:
        """How its job stands: pending, running, succeeded, failed, stopped."""
        return self.job.state().word

    def logs(self, *, follow: bool = False) -> Iterator[str]:
        """What its job prints, in pieces; with `follow`, until it ends."""
        return self.job.logs(follow=follow)

    def stop(self) -> State:
        """Let it save and end; waits until it has."""
        return self.job.stop()

    def watch(self) -> Self:
        """Wait as `wait` does, and show it meanwhile: in a notebook as a card that changes, elsewhere its log."""
        card.watch(self.job)
        return self.wait()

    def wait(self, timeout_s: float | None = None) -> Self:
        """Wait for its end.

        Raises:
            ClusterError: It failed; the last of its log is told.
            TimeoutError: It has not ended by then.
        """
        state = self.job.wait(timeout_s)
        if state.word == "failed":
            lines = (
                state.message if state.exit_status is None else "".join(self.job.logs())
            ).splitlines()
            last = "\n  ".join([line for line in lines if line.strip()][-TAIL:])
            raise ClusterError(
                f"the job {self.job.id} failed with status {exit_status(state)}:\n  {last}"
            )
        return self

    def _ask(self, *words: str) -> Any:
        """The JSON that a command prints on the cluster, where the store is at hand."""
        ask = submit(self.job.cluster, words, id=new_id(["ask", words[0]]), asks=True)
        state = ask.wait()
        printed = "".join(ask.logs())
        if state.word != "succeeded":
            raise ClusterError(f"the cluster could not tell: {printed.strip().splitlines()[-1]}")
        return json.loads(printed.strip().splitlines()[-1])


class RemoteRun(RemoteJob):
    """A training on a cluster. The job and the run have one name."""

    kind = "run"
    _finished: dict[str, Any] | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The newest metrics; the evaluation's too, once it has ended. Asked of the cluster until then."""
        return dict(self._status["metrics"])

    @property
    def model(self) -> "RemoteModel":
        """What was registered.

        Raises:
            RequestError: Nothing has been.
        """
        status = self._status
        if not status["model"]:
            raise RequestError(f"the run {self.name} is {status['state']} and has registered nothing")
        return RemoteModel(status["model"], status["metrics"])

    @property
    def _status(self) -> dict[str, Any]:
        if self._finished:
            return self._finished
        status = self._ask("runs", "show", self.name, "--json")["status"]
        if status["state"] == "finished":
            self._finished = status
        return status


class RemoteSweep(RemoteJob):
    """A sweep on a cluster. The job and the sweep have one name."""

    kind = "sweep"

    @property
    def models(self) -> list["RemoteModel"]:
        """What was registered, the best first."""
        told = self._ask("sweeps", "show", self.name, "--json")
        return [RemoteModel(trial["model"], trial["metrics"]) for trial in told["best"]]


class RemoteEndpoint(RemoteJob):
    """Models that a job serves, until it is stopped."""

    kind = "endpoint"

    def wait(self, timeout_s: float | None = None) -> Self:
        """Wait until it answers.

        Raises:
            RequestError: The cluster's profile does not say where it is reached.
            ClusterError: It has ended, and the last of its log is told; or it serves at another address.
            TimeoutError: It does not answer by then.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        silent_from = None
        with self.connect(timeout_s=10) as endpoint:
            while True:
                if self.job.state().over:
                    super().wait()
                    raise ClusterError(f"the job {self.name} was stopped, and serves nothing any more")
                if self._serves():
                    silent_from = silent_from or time.monotonic()
                    if _answers(endpoint):
                        return self
                if silent_from and time.monotonic() - silent_from > ANSWERS_S:
                    raise ClusterError(
                        f"the job {self.name} serves, and {endpoint.url} does not answer within {ANSWERS_S} s; "
                        f"see its log for where it listens, and give the profile the endpoint that leads there"
                    )
                if until and time.monotonic() > until:
                    raise TimeoutError(f"{endpoint.url} does not answer after {timeout_s:g} s")
                time.sleep(1)

    def _serves(self) -> bool:
        """Whether its command has said that all models answer."""
        return any(line.startswith(SERVING) for line in "".join(self.job.logs()).splitlines())

    def watch(self) -> Self:
        """Show it until it is stopped: in a notebook as a card that changes, elsewhere its log."""
        card.watch(self.job)
        return self

    def connect(self, key: str | None = None, timeout_s: float = 120) -> Any:
        """The endpoint, at the address that the cluster's profile names; on loopback, at the job's port.

        Raises:
            RequestError: It names none, or that of another.
        """
        profile = self.job.cluster.profile
        url = served.address(profile, self._command)
        return genloom.connect(url, key=key, timeout_s=timeout_s, ca=profile.ca)

    @cached_property
    def _command(self) -> str:
        return self.job.state().command


@dataclass(frozen=True)
class RemoteModel:
    """A registered model, on the cluster's store."""

    full_name: str
    """`name@version`."""
    metrics: dict[str, float]

    def __str__(self) -> str:
        return self.full_name


def _answers(endpoint: Any) -> bool:
    try:
        endpoint.request("GET", "/healthz")
    except EndpointError:
        return False
    return True


KINDS: dict[str, type[RemoteJob]] = {
    "train": RemoteRun, "finetune": RemoteRun, "sweep": RemoteSweep, "serve": RemoteEndpoint,
}  # fmt: skip
"""What commands start."""


def handle(job: Job) -> RemoteJob:
    """A job as what its command started.

    Raises:
        UnknownName: The cluster has no such job, or none any more.
    """
    words = shlex.split(job.state().command)
    return KINDS.get(words[1] if len(words) > 1 else "", RemoteJob)(job)
