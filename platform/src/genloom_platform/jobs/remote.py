"""A cluster in team code: what `genloom.connect("lab")` gives, with the words of the command line.

lab = genloom.connect("lab")
run = lab.train("image-vae", data="digits", steps=400)
run.wait().model
"""

import json
import tempfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from genloom.errors import RequestError
from genloom_platform import profiles
from genloom_platform.jobs import job as jobs
from genloom_platform.jobs import submit as submission
from genloom_platform.jobs import wheel
from genloom_platform.jobs.client import Cluster
from genloom_platform.jobs.handles import (
    RemoteEndpoint,
    RemoteJob,
    RemoteModel,
    RemoteRun,
    RemoteSweep,
    handle,
)
from genloom_platform.jobs.job import Job, State
from genloom_platform.settings import read_yaml


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
    ) -> RemoteRun:
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
    ) -> RemoteRun:
        """Train a registered model further: `genloom finetune`; arguments as for `train`."""
        words = ["finetune", model, *_words(settings), "--data", data]
        return RemoteRun(self._start(words, name))

    def sweep(
        self,
        source: str | PathLike[str] | Mapping[str, Any],
        *,
        name: str | None = None,
        **settings: Any,
    ) -> RemoteSweep:
        """Start a sweep: `genloom sweep`.

        Args:
            source: A YAML file, or its content.
            name: The sweep's name, and the job's; one that was cut off goes on.
            settings: Keys of the sweep over those of the source, as in `trials=30`.
        """
        if isinstance(source, Mapping):
            values = dict(source)
        else:
            values = read_yaml(str(source))
            name = Path(source).stem if name is None else name
        if name is None:
            raise RequestError("give the sweep a name, as in sweep({…}, name='rates')")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{name}.yaml")
            path.write_text(yaml.safe_dump({**values, **settings}, sort_keys=False))
            words = ["sweep", path.name, "--name", name]
            return RemoteSweep(self._start(words, name, Path(folder)))

    def serve(
        self, *models: str | RemoteModel, name: str | None = None, **options: Any
    ) -> RemoteEndpoint:
        """Serve models until the job is stopped: `genloom serve`.

        Args:
            models: Their names, with a version or an alias.
            name: The job's.
            options: Options of the command, as in `port=8000` or `compile=True`; a list gives one several times.
        """
        words = ["serve", *map(str, models)]
        words += [
            word
            for option, value in options.items()
            for word in _option(f"--{option.replace('_', '-')}", value)
        ]
        return RemoteEndpoint(self._start(words, name))

    def submit(self, *words: str, name: str | None = None) -> RemoteJob:
        """Start any other command, as in `submit("data", "import", "digits")`: `genloom submit`."""
        return RemoteJob(self._start(list(words), name))

    def jobs(self) -> list[State]:
        """Every job that the cluster knows, the newest first: `genloom jobs list`."""
        return jobs.list_jobs(self.cluster)

    def find(self, name: str) -> RemoteJob:
        """What a job started, whoever sent it: a `RemoteRun`, a `RemoteSweep` or a `RemoteEndpoint`.

        Raises:
            UnknownName: The cluster has no such job, or none any more.
        """
        return handle(Job(self.cluster, name))

    def run(self, name: str) -> RemoteRun:
        """A run that a job started, by its name."""
        return RemoteRun(Job(self.cluster, name))

    def _start(self, words: list[str], name: str | None, folder: Path = Path()) -> Job:
        return submission.submit(
            self.cluster, words, id=name, plugin=wheel.chosen(self._plugin), folder=folder
        )


def _words(settings: Mapping[str, Any]) -> list[str]:
    """Settings as the command line has them: `key.path=value`, the value as JSON, which is YAML too."""
    return [f"{_key(key)}={json.dumps(value)}" for key, value in settings.items()]


def _option(name: str, value: Any) -> list[str]:
    """An option as the command line has it: True is the option alone, False and None are none."""
    if value is None or value is False:
        return []
    if value is True:
        return [name]
    return [f"{name}={each}" for each in (value if isinstance(value, (list, tuple)) else [value])]


def _key(word: str) -> str:
    """A key of the run or the generator, as Python's names can write it."""
    return "scale.workers" if word == "workers" else word.replace("__", ".")
