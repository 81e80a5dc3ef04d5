"""Where the time goes from a command to its training's first step, sent from a laptop or typed on the head.

The plugin notes when its module is imported and when its loss is first asked for, with the time at which
that process started. When the job reached Ray is told by Ray, when the run was created by the run's record.
"""

import datetime
import json
import os
import shutil
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from laptop import Laptop

from genloom_platform import profiles
from genloom_platform.jobs import wheel
from genloom_platform.jobs.client import Cluster
from genloom_platform.jobs.job import Job

VARIABLE = "ACME_NOTES"
NOTING = f'''
import json, os, sys, time
import psutil

_NOTES = {{
    "driver": not sys.argv[0].endswith("default_worker.py"),
    "process": psutil.Process().create_time(),
    "imported": time.time(),
}}


def _note():
    with open(os.path.join(os.environ["{VARIABLE}"], f"{{os.getpid()}}.json"), "w") as file:
        json.dump(_NOTES, file)


_plain = Dots.loss


def _noted(self, model, batch):
    if "loss" not in _NOTES:
        _NOTES["loss"] = time.time()
        _note()
    return _plain(self, model, batch)


Dots.loss = _noted
_note()
'''
RUN = """
generator: {name: acme-dots}
data: digits
steps: 4
global_batch: 64
evaluate: false
samples: {every: 0}
scale: {workers: 2}
"""
TYPED, SENT = "typed", "sent"
STAGES = {
    SENT: "the laptop: imports, the wheel, what is sent",
    "command": "Ray: the plugin on the head, the job's supervisor",
    "imported": "the command: its imports, the plugin's",
    "created": "it connects to Ray, creates the run",
    "processes": "until the workers' processes start",
    "workers": "their imports, until the plugin's",
    "first step": "Ray Train's group, the engine, the first batch",
}
"""What happens in the time that ends with each."""


@dataclass(frozen=True)
class Passed:
    """When a training came by, in seconds since the epoch."""

    at: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """From the typed command to the first step."""
        return self.at["first step"] - self.at[TYPED]

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of each stage."""
        return {name: end - begin for (_, begin), (name, end) in pairwise(self.at.items())}


class Bench:
    """A laptop, its cluster, and trainings of one plugin there, by both ways."""

    def __init__(self, folder: Path) -> None:
        self._notes = folder / "notes"
        self._notes.mkdir(parents=True)
        self.laptop = Laptop(folder, f"{{{VARIABLE}: {self._notes}}}")
        module = self.laptop.work / "src" / "acme_dots" / "__init__.py"
        module.write_text(module.read_text() + NOTING)
        (self.laptop.work / "run.yaml").write_text(RUN)
        # On the head the plugin is installed, as whoever works there does once.
        installed = folder / "installed"
        with zipfile.ZipFile(wheel.build(self.laptop.work, folder).path) as made:
            made.extractall(installed)
        self._head = {
            **self.laptop.on_the_head,
            VARIABLE: str(self._notes),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(installed), os.environ.get("PYTHONPATH")))),
        }
        profile = self.laptop.profile
        profile.write_text(f"{profile.read_text()}token: {{file: {self.laptop.token}}}\n")

    def digits(self) -> None:
        """Bring the dataset into the store."""
        self._run("data", "import", "digits", GENLOOM_STORE=self.laptop.store)

    def submitted(self, name: str) -> Passed:
        """A training by `genloom submit`."""
        typed = self._run("submit", "--id", name, "--", "train", "run.yaml")
        with Cluster(profiles.load(str(self.laptop.profile))) as cluster:
            state = Job(cluster, name).wait()
        assert state.word == "succeeded", state
        return _told(name, self._passed(name, {TYPED: typed, SENT: state.started}))

    def by_hand(self, name: str) -> Passed:
        """The same, typed on the head."""
        typed = self._run("train", "run.yaml", "--name", name, **self._head)
        return _told(name, self._passed(name, {TYPED: typed}))

    def _run(self, *words: str, **environment: str) -> float:
        """Run a command to its end; when it was typed."""
        shutil.rmtree(self._notes)
        self._notes.mkdir()
        typed = time.time()
        status, output = self.laptop(*words, **environment)
        assert status == 0, output
        return typed

    def _passed(self, name: str, before: Mapping[str, float]) -> Passed:
        notes = [json.loads(path.read_text()) for path in self._notes.iterdir()]
        (driver,) = (each for each in notes if each["driver"])
        workers = [each for each in notes if "loss" in each]
        record = json.loads(Path(self.laptop.store[7:], f"runs/{name}/run.json").read_text())
        sent = {"command": driver["process"]} if SENT in before else {}
        return Passed({
            **before,
            **sent,
            "imported": driver["imported"],
            "created": datetime.datetime.fromisoformat(record["created_at"]).timestamp(),
            "processes": max(each["process"] for each in workers),
            "workers": max(each["imported"] for each in workers),
            "first step": max(each["loss"] for each in workers),
        })  # fmt: skip


def _told(name: str, passed: Passed) -> Passed:
    """The same, and a line of it: all of them take minutes."""
    stages = "  ".join(f"{stage} {seconds:.1f}" for stage, seconds in passed.stages.items())
    print(f"{name}: first step after {passed.seconds:.1f} s: {stages}", flush=True)
    return passed
