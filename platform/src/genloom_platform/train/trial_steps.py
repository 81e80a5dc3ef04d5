"""The process of a trial: `python -m genloom_platform.train.trial_steps JOB.json`, which `trial.py` starts."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import genloom
from genloom.errors import GenloomError
from genloom_platform.config import RunConfig, Scale
from genloom_platform.models.start import arrange
from genloom_platform.train import failures
from genloom_platform.train.trial import LIMIT_S, STEPS, TRIAL_S, WARM_UP, Job

if TYPE_CHECKING:
    from genloom_platform.train.engine import Engine


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

    def prepare(model: Any) -> None:
        if job.start and config.finetune:
            arrange(model, config.finetune, job.start)  # the weights' values do not matter here

    _steps(Engine(config, trainable, data, prepare), batches, note)
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
