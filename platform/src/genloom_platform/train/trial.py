"""A trial: a few steps of a run's real model on one worker's share, in a process of its own.

`try_out` starts it, on this machine or on the cluster that RAY_ADDRESS names, and says how it went. What the
process finds it notes line by line, so that a crash or want of memory leaves what was found before. Nothing is
written to the store. The process is `trial_steps.py`.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

from genloom.data import Facts
from genloom_platform import autoscaling, cluster
from genloom_platform.config import RunConfig
from genloom_platform.models.start import Start
from genloom_platform.train import failures

PROCESS = "genloom_platform.train.trial_steps"
TRIAL_S = 15.0
"""After so many seconds of steps no other is begun."""
LIMIT_S = 60.0
"""After so many seconds the process is ended, wherever it is."""
PLACE_S = 60.0
"""How long a place on a cluster is waited for."""
STEPS = 20
WARM_UP = 2
"""Steps that are not timed: memory is allocated, kernels are chosen; the second one's memory is measured."""


class Job(Facts):
    """What the process is to try."""

    store: str
    config: RunConfig
    dataset: str
    workers: int
    """The share is that of one of so many."""
    start: Start | None = None
    """What the run starts with, where it is a finetune."""
    notes: str = ""
    """The file for what it finds."""


class Trial(Facts):
    """How a trial went: as far as it came."""

    device: str = ""
    """As in "NVIDIA H100", or "CPU"."""
    gpu_bytes: int = 0
    """Memory of the GPU; 0 where there is none."""
    machine_bytes: int = 0
    """Memory of the machine."""
    context_bytes: int = 0
    """What was in use of the GPU beside torch's tensors."""
    resting_bytes: int = 0
    """What the process had in use between its first two steps, of the machine's memory."""
    activations_bytes: int = 0
    """What a loss keeps for its backward pass, the greatest."""
    step_bytes: int = 0
    """What a step allocated for a while, all in all."""
    peak_bytes: int = 0
    """The most that the process, or its GPU, had in use."""
    steps_s: tuple[float, ...] = ()
    """Seconds of each step after the warm-up."""
    data_s: tuple[float, ...] = ()
    """Seconds in which one CPU prepared the share of each of them."""
    ending: Literal["done", "out of memory", "out of time", "no place", "error"] = "done"
    message: str = ""
    """Why it came to no end."""

    @property
    def error(self) -> str:
        """What the run would fail with too; empty where nothing was seen."""
        return self.message if self.ending == "error" else ""

    @property
    def out_of_memory(self) -> bool:
        """Whether there was not memory enough for it."""
        return self.ending == "out of memory"

    @property
    def step_s(self) -> float:
        """Seconds of a step, the median; only where one was timed."""
        return statistics.median(self.steps_s)

    @property
    def share_s(self) -> float:
        """Seconds that a share takes to prepare, the mean."""
        return statistics.mean(self.data_s)


def try_out(
    store: str, config: RunConfig, dataset: str, workers: int, start: Start | None = None
) -> Trial:
    """Try a run where its workers would be: on the cluster that RAY_ADDRESS names, or in this machine.

    Args:
        store: The URL of the dataset's store.
        config: The run.
        dataset: Its dataset, `name@version`.
        workers: One of so many takes the share that is tried.
        start: What the run starts with, where it is a finetune.

    Raises:
        RequestError: The cluster is too small for the run.
    """
    job = Job(store=store, config=config, dataset=dataset, workers=workers, start=start)
    if "RAY_ADDRESS" not in os.environ:
        return run(job)
    import ray
    import ray.exceptions

    scale = config.scale
    cluster.connect()
    cluster.require(scale.fewest * scale.cpus_per_worker, scale.fewest * scale.gpus_per_worker)
    remote: Any = ray.remote(
        num_cpus=scale.cpus_per_worker, num_gpus=scale.gpus_per_worker, max_retries=0
    )(run)
    task = remote.remote(job)
    done, _ = ray.wait([task], timeout=PLACE_S + LIMIT_S)
    if not done:
        ray.cancel(task, force=True)
        message = f"the cluster had no room for a worker within {PLACE_S + LIMIT_S:.0f} s"
        if autoscaling.machines():
            message += "; its autoscaler was asked for a machine: look again when that has come"
        return Trial(ending="no place", message=message)
    try:
        return ray.get(task)
    except ray.exceptions.OutOfMemoryError as error:
        return Trial(ending="out of memory", message=failures.line(error))
    except ray.exceptions.WorkerCrashedError:
        return Trial(ending="error", message="the worker's process died")


def run(job: Job) -> Trial:
    """Try it in a process of its own on this machine."""
    with tempfile.TemporaryDirectory(prefix="genloom-trial-") as folder:
        notes, log, file = (Path(folder) / name for name in ("notes", "log", "job.json"))
        notes.touch()
        file.write_text(job.model_copy(update={"notes": str(notes)}).model_dump_json())
        command = [sys.executable, "-m", PROCESS, str(file)]
        environment = {**os.environ, **cluster.environment()}
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own module
                command, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
            try:
                status = process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                process.kill()
                process.wait()
        said = log.read_text(errors="replace").strip().splitlines()
        return outcome([json.loads(line) for line in notes.read_text().splitlines()], status, said)


def outcome(notes: list[dict[str, Any]], status: int | None, said: list[str]) -> Trial:
    """What a process found, and how it ended: its exit status, None where it took too long."""
    found = {key: value for note in notes for key, value in note.items()}
    for times in ("steps_s", "data_s"):
        found[times] = [note[times] for note in notes if times in note]
    if status is None and not found["steps_s"]:
        found |= {"ending": "out of time", "message": f"no step was timed within {LIMIT_S:.0f} s"}
    elif status == -signal.SIGKILL:
        message = "its process was killed, as a system does for want of memory"
        found |= {"ending": "out of memory", "message": message}
    elif status and "ending" not in found:
        message = f"its process ended with status {status}: {said[-1] if said else 'and said nothing'}"
        found |= {"ending": "error", "message": message}
    return Trial.model_validate(found)
