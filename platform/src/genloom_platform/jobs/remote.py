"""A cluster in team code: what `genloom.connect("lab")` gives, with the words of the command line.

lab = genloom.connect("lab")
run = lab.train("image-vae", data="digits", steps=400)
run.wait().model
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self

import yaml

import genloom
from genloom.errors import ClusterError, RequestError
from genloom_platform import profiles
from genloom_platform.jobs import wheel
from genloom_platform.jobs.client import Cluster
from genloom_platform.jobs.job import Job, State, exit_status
from genloom_platform.jobs.submit import new_id, submit
from genloom_platform.settings import read_yaml

TAIL = 12
"""Lines of a failed job's log that its error tells."""


class Remote:
    """The platform on a cluster. What it starts goes on there, whatever becomes of this process."""

    def __init__(self, name: str, *, plugin: str | PathLike[str] | None = None) -> None:
        """Find a cluster.

        Args:
            name: Its profile's name.
            plugin: The folder of the team's own plugin, which travels with every job; the working folder where
                that is one's, and None is given.

        Raises:
            UnknownName: There is no such profile.
        """
        self.cluster = Cluster(profiles.load(name))
        self._plugin = Path(plugin) if plugin else None

    def train(
        self, generator: str, *, data: str, name: str | None = None, **settings: Any
    ) -> "RemoteRun":
        """Start a training: `genloom train`.

        Args:
            generator: Its name.
            data: The dataset.
            name: The run's name, and the job's: the same name is the same run.
            settings: Any key of the run or of the generator; a dot is written as two underscores, as in
                `scale__workers=2`. `workers` is short for that one.
        """
        words = ["train", generator, *_words(settings), "--data", data]
        return RemoteRun(self._start(words, name))

    def finetune(
        self, model: str, /, *, data: str, name: str | None = None, **settings: Any
    ) -> "RemoteRun":
        """Train a registered model further: `genloom finetune`; arguments as for `train`."""
        words = ["finetune", model, *_words(settings), "--data", data]
        return RemoteRun(self._start(words, name))

    def sweep(
        self, source: str | Mapping[str, Any], *, name: str | None = None, **settings: Any
    ) -> "RemoteSweep":
        """Start a sweep: `genloom sweep`.

        Args:
            source: A YAML file, or its content.
            name: The sweep's name, and the job's; one that was cut off goes on.
            settings: Keys of the sweep over those of the source, as in `trials=30`.
        """
        values = read_yaml(source) if isinstance(source, str) else dict(source)
        name = name or (Path(source).stem if isinstance(source, str) else None)
        if name is None:
            raise RequestError("give the sweep a name, as in sweep({…}, name='rates')")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{name}.yaml")
            path.write_text(yaml.safe_dump({**values, **settings}, sort_keys=False))
            words = ["sweep", path.name, "--name", name]
            return RemoteSweep(self._start(words, name, Path(folder)))

    def serve(
        self, *models: "str | RemoteModel", name: str | None = None, **options: Any
    ) -> "RemoteEndpoint":
        """Serve models until the job is stopped: `genloom serve`.

        Args:
            models: Their names, with a version or an alias.
            name: The job's.
            options: Options of the command, as in `port=8000`.
        """
        words = ["serve", *map(str, models)]
        words += [f"--{option.replace('_', '-')}={value}" for option, value in options.items()]
        return RemoteEndpoint(self._start(words, name))

    def job(self, id: str) -> Job:
        """A job by its id, whoever sent it."""
        return Job(self.cluster, id)

    def run(self, name: str) -> "RemoteRun":
        """A run that a job started, by its name."""
        return RemoteRun(Job(self.cluster, name))

    def _start(self, words: list[str], name: str | None, folder: Path = Path()) -> Job:
        return submit(self.cluster, words, id=name, plugin=wheel.chosen(self._plugin), folder=folder)


class _Handle:
    """A job, and what its command makes."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.name = job.id

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


class RemoteRun(_Handle):
    """A training on a cluster. The job and the run have one name."""

    @property
    def metrics(self) -> dict[str, float]:
        """The newest metrics; the evaluation's too, once it has ended. Asked of the cluster each time."""
        return dict(self._ask("runs", "show", self.name, "--json")["status"]["metrics"])

    @property
    def model(self) -> "RemoteModel":
        """What was registered.

        Raises:
            RequestError: Nothing has been.
        """
        status = self._ask("runs", "show", self.name, "--json")["status"]
        if not status["model"]:
            raise RequestError(f"the run {self.name} is {status['state']} and has registered nothing")
        return RemoteModel(status["model"], status["metrics"])


class RemoteSweep(_Handle):
    """A sweep on a cluster."""

    @property
    def models(self) -> list["RemoteModel"]:
        """What was registered, the best first."""
        told = self._ask("sweeps", "show", self.name, "--json")
        return [RemoteModel(trial["model"], trial["metrics"]) for trial in told["best"]]


class RemoteEndpoint(_Handle):
    """Models that a job serves, until it is stopped."""

    def connect(self, key: str | None = None, timeout_s: float = 120) -> Any:
        """The endpoint, at the address that the cluster's profile names for it.

        Raises:
            RequestError: It names none.
        """
        profile = self.job.cluster.profile
        if profile.endpoint is None:
            raise RequestError(
                f"the profile {profile.name} does not say where its endpoints are reached; add endpoint: https://…"
            )
        return genloom.connect(profile.endpoint, key=key, timeout_s=timeout_s, ca=profile.ca)


@dataclass(frozen=True)
class RemoteModel:
    """A registered model, on the cluster's store."""

    full_name: str
    """`name@version`."""
    metrics: dict[str, float]

    def __str__(self) -> str:
        return self.full_name


def _words(settings: Mapping[str, Any]) -> list[str]:
    """Settings as the command line has them: `key.path=value`, the value as JSON, which is YAML too."""
    return [f"{_key(key)}={json.dumps(value)}" for key, value in settings.items()]


def _key(word: str) -> str:
    """A key of the run or the generator, as Python's names can write it."""
    return "scale.workers" if word == "workers" else word.replace("__", ".")
