"""A trial: a few steps of a run's real model on one worker's share, in a process of its own.

`python -m genloom_platform.train.trial JOB.json` is that process; what it finds it notes line by line, so that
a crash or want of memory leaves what was found before. `try_out` starts it, on this machine or on the cluster
that RAY_ADDRESS names, and says how it went. Nothing is written to the store.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import genloom
from genloom.data import Facts
from genloom.errors import GenloomError
from genloom_platform import cluster
from genloom_platform.config import RunConfig, Scale
from genloom_platform.train import failures

if TYPE_CHECKING:
    from genloom_platform.train.engine import Engine

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


def try_out(store: str, config: RunConfig, dataset: str, workers: int) -> Trial:
    """Try a run where its workers would be: on the cluster that RAY_ADDRESS names, or in this machine.

    Args:
        store: The URL of the dataset's store.
        config: The run.
        dataset: Its dataset, `name@version`.
        workers: One of so many takes the share that is tried.

    Raises:
        RequestError: The cluster is too small for the run.
    """
    job = Job(store=store, config=config, dataset=dataset, workers=workers)
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
        message = f"the cluster had no room for a worker for {PLACE_S:.0f} s"
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
        command = [sys.executable, "-m", "genloom_platform.train.trial", str(file)]
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
        return _outcome([json.loads(line) for line in notes.read_text().splitlines()], status, said)


def _outcome(notes: list[dict[str, Any]], status: int | None, said: list[str]) -> Trial:
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


def main(file: str) -> None:
    """Be the process."""
    # Whoever started it may be gone, and then nobody ends it.
    signal.alarm(int(LIMIT_S) + 5)
    job = Job.model_validate_json(Path(file).read_text())
    with open(job.notes, "a", buffering=1) as notes:

        def note(**found: Any) -> None:
            notes.write(json.dumps(found) + "\n")

        try:
            _try(job, note)
        except Exception as error:
            ending = "out of memory" if failures.out_of_memory(error) else "error"
            kind = "" if isinstance(error, GenloomError) else f"{type(error).__name__}: "
            note(ending=ending, message=kind + failures.line(error))
            raise


def _try(job: Job, note: Any) -> None:
    import torch
    import torch.distributed as dist

    from genloom_platform.train.engine import Engine

    for name in ("ray.data", "ray.train"):
        import_module(name)  # a worker has them, and their memory counts
    scale = job.config.scale
    torch.set_num_threads(max(1, int(scale.cpus_per_worker)))
    gpu = torch.cuda.is_available()
    note(**_device(gpu))
    if scale.gpus_per_worker and not gpu:
        message = (
            "the run asks for GPUs, and there is none here; let RAY_ADDRESS name a cluster that has"
        )
        note(ending="no place", message=message)
        return
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_SIZE="1")
    meeting = Path(job.notes).with_name("meeting").as_uri()
    dist.init_process_group("nccl" if gpu else "gloo", meeting, rank=0, world_size=1)
    config, trainable, data, batches = _share(job)
    _steps(Engine(config, trainable, data), batches, note)
    dist.destroy_process_group()


def _device(gpu: bool) -> dict[str, Any]:
    import torch
    from ray._common.utils import get_system_memory  # which knows the limit of a container

    found = {"device": "CPU", "machine_bytes": get_system_memory()}
    if gpu:
        _, whole = torch.cuda.mem_get_info()
        found |= {"device": torch.cuda.get_device_name(), "gpu_bytes": whole}
    return found


def _at_rest(engine: "Engine") -> dict[str, int]:
    """What is in use between two steps."""
    import psutil
    import torch

    found = {"resting_bytes": psutil.Process().memory_info().rss}
    if engine.device.type == "cuda":
        free, whole = torch.cuda.mem_get_info()
        found["context_bytes"] = whole - free - torch.cuda.memory_reserved()
    return found


def _share(job: Job) -> tuple[RunConfig, genloom.Trainable, Any, Iterator[genloom.Batch]]:
    """A run of one worker whose batches are the share of one of many."""
    from genloom_platform.data import manifest as manifests
    from genloom_platform.data.stream import Stream, local_batches, to_batch
    from genloom_platform.store import Store

    config, store = job.config, Store(job.store)
    trainable = config.trainable()
    manifest = manifests.load(store, job.dataset)
    stream = Stream(store, manifest, trainable, config.global_batch, config.seed)
    rounds = max(objective.repeats for objective in trainable.objectives())
    shares = local_batches(stream, 0, rounds * (WARM_UP + STEPS), 0, job.workers)
    own = {
        "global_batch": config.global_batch // job.workers,
        "scale": Scale.model_validate({"workers": 1}),
    }
    batches = (to_batch(trainable, share) for share in shares)
    return config.model_copy(update=own), trainable, stream.data, batches


def _steps(engine: "Engine", batches: Iterator[genloom.Batch], note: Any) -> None:
    import torch

    begun = time.monotonic()
    for number in range(WARM_UP + STEPS):
        started = time.monotonic()
        shares = [next(batches) for _ in range(engine.rounds)]
        prepared = time.monotonic()
        if number == WARM_UP - 1:
            note(**_memory_of_a_step(engine, number, shares))
        else:
            engine.step(number, shares)
            if engine.device.type == "cuda":
                torch.cuda.synchronize()
        if number == 0:
            note(**_at_rest(engine))
        if number >= WARM_UP:
            took_s = time.monotonic() - prepared
            note(steps_s=took_s, data_s=prepared - started, peak_bytes=_peak_bytes(engine))
        if time.monotonic() - begun > TRIAL_S:
            return


def _memory_of_a_step(engine: "Engine", number: int, shares: list[genloom.Batch]) -> dict[str, int]:
    """Train one step, and see what its losses keep, and what it allocates in all."""
    from genloom_platform.train.meter import Meter

    meter = Meter(engine.device)

    def metered(loss: Any) -> Any:
        def call(*arguments: Any) -> Any:
            meter.mark()
            value = loss(*arguments)
            meter.mark()
            return value

        return call

    kept = engine.parts
    engine.parts = [
        replace(part, objective=replace(part.objective, loss=metered(part.objective.loss)))
        for part in kept
    ]
    with meter:
        engine.step(number, shares)
    engine.parts = kept
    sections = meter.sections  # between the losses, and in them, by turns
    activations = [loss.most - before.end for before, loss in pairwise(sections)]
    most = max(section.most for section in sections)
    return {"activations_bytes": max(activations[::2]), "step_bytes": most}


def _peak_bytes(engine: "Engine") -> int:
    """The most that this process has had in use."""
    if engine.device.type == "cuda":
        import torch

        return torch.cuda.max_memory_reserved()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    main(sys.argv[1])
