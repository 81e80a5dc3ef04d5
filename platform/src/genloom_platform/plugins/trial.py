"""The conformance kit's training: one worker and two, at each ZeRO stage, with a stop in the middle.

`conformance.py` runs it as a process of its own: `python -m genloom_platform.plugins.trial JOB.json`.
DeepSpeed takes seconds to import, so it is imported once, and the three workers are forked from here.
"""

import datetime
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import genloom
from genloom.data import Facts
from genloom.testing.rules import told
from genloom_platform.train.progress import Report

STAGES = (1, 2, 3)
WORLDS = (1, 2)
STEPS = 4
STOP = 2
"""The step whose checkpoint the second run resumes from."""
BATCH = 8
PATIENCE = datetime.timedelta(minutes=2)


class Subject(Facts):
    """Where a class is to be found, and its configuration."""

    module: str
    file: str
    """The source file: a test's module has a name by which nobody else can import it."""
    qualname: str
    config: dict[str, Any]

    def load(self) -> genloom.Trainable:
        """The configured generator or predictor."""
        found: Any = self._module()
        for part in self.qualname.split("."):
            found = getattr(found, part)
        return found.model_validate(self.config)

    def _module(self) -> ModuleType:
        if self.module != "__main__":
            try:
                module = import_module(self.module)
            except ModuleNotFoundError as error:
                if error.name is None or not f"{self.module}.".startswith(f"{error.name}."):
                    raise  # not the module itself, but one that it imports
            else:
                if os.path.realpath(module.__file__ or "") == os.path.realpath(self.file):
                    return module
        name = self.module.replace("__main__", "genloom_trial_subject")
        spec = spec_from_file_location(name, self.file)
        assert spec
        assert spec.loader
        sys.modules[name] = module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


class Job(Facts):
    """What the workers are to train."""

    subject: Subject
    dataset: str
    folder: str
    """Where the dataset is, and where checkpoints and results go."""
    path: tuple[str, ...]
    """Where Python finds modules."""


class Stage(Facts):
    """How one number of workers fared at one ZeRO stage."""

    world: int
    stage: int
    losses: tuple[dict[str, float], ...] = ()
    """Of each step, by objective."""
    resumed: tuple[dict[str, float], ...] = ()
    """Of each step after `STOP`, in a run that resumed there."""
    unequal: tuple[str, ...] = ()
    """Buffers that differed between the ranks in the end."""
    error: str = ""
    """The first exception, in one line."""


def main(file: str) -> None:
    """Train with every number of workers at once."""
    job = Job.model_validate_json(Path(file).read_text())
    sys.path[:] = job.path
    import torch.multiprocessing as mp

    # Once for all workers, before they are forked; the second is for ZeRO-3.
    for module in ("genloom_platform.train.loop", "torch._dynamo"):
        import_module(module)
    groups: list[Any] = [
        mp.start_processes(_work, (world, job), world, join=False, start_method="fork")
        for world in WORLDS
    ]
    for group in groups:
        while not group.join():
            pass


def _work(rank: int, world: int, job: Job) -> None:
    """One worker: every stage in turn. Its first exception is noted, for the log is hard to read."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_SIZE=str(world)
    )
    meeting = (Path(job.folder) / f"meeting-{world}").as_uri()
    dist.init_process_group("gloo", meeting, PATIENCE, world, rank)
    for stage in STAGES:
        try:
            found = _train(job, world, stage)
        except Exception as error:
            traceback.print_exc()
            line = told(error, job.subject.file)
            _note(job, Stage(world=world, stage=stage, error=line))
            raise
        if rank == 0:
            _note(job, found)
    dist.destroy_process_group()


def _train(job: Job, world: int, stage: int) -> Stage:
    """Train at one stage, then once more from the checkpoint in the middle."""
    import torch.distributed as dist

    from genloom_platform.data import manifest
    from genloom_platform.data.stream import Columns, Stream, local_batches
    from genloom_platform.store import Store
    from genloom_platform.train import checkpoint
    from genloom_platform.train.loop import train
    from genloom_platform.train.saver import Saver

    trainable, store = job.subject.load(), Store(job.folder)
    config = _config(job, stage)
    stream = Stream(store, manifest.load(store, job.dataset), trainable, BATCH)
    run, rank = f"world-{world}-stage-{stage}", int(os.environ["RANK"])
    end = STEPS * max(objective.repeats for objective in trainable.objectives())

    def batches(start: int) -> Iterator[Columns]:
        return local_batches(stream, start, end, rank, world)

    savers: list[Saver] = []

    def save(engine: Any, step: int, metrics: dict[str, float]) -> None:
        if not savers:
            savers.append(Saver(store, run, engine))
        savers[0].save(step, metrics)

    def resume(engine: Any) -> int:
        savers[0].wait()
        dist.barrier()  # rank 0 commits for all
        return checkpoint.load(store, run, engine, STOP)

    whole, rest = Losses(trainable), Losses(trainable)
    engine = train(config, trainable, stream.data, batches, whole.note, save)
    unequal = _unequal_buffers(engine.model)
    train(config, trainable, stream.data, batches, rest.note, lambda *saving: None, resume)
    return Stage(
        world=world,
        stage=stage,
        losses=tuple(whole.steps),
        resumed=tuple(rest.steps),
        unequal=unequal,
    )


class Losses:
    """The losses of a run, without the metrics beside them."""

    def __init__(self, trainable: genloom.Trainable) -> None:
        self.steps: list[dict[str, float]] = []
        self._names = [objective.name for objective in trainable.objectives()]

    def note(self, engine: Any, report: Report) -> bool:
        """Take what the loop reports, and let it go on."""
        self.steps += [{name: values[name] for name in self._names} for values in report.metrics]
        return False


def _config(job: Job, stage: int) -> Any:
    from genloom_platform.config import RunConfig

    return RunConfig.model_validate(
        {
            "generator": {"name": "subject"},
            "data": job.dataset,
            "steps": STEPS,
            "global_batch": BATCH,
            "deepspeed": {"zero_optimization": {"stage": stage}},
            "checkpoint": {"every": STOP, "keep": STEPS},
            "log_every": 1,
        }
    )


def _unequal_buffers(model: Any) -> tuple[str, ...]:
    """The names of buffers that are not the same on all ranks, to the last bit."""
    import torch.distributed as dist

    digests = {
        name: hashlib.sha256(buffer.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
        for name, buffer in model.named_buffers()
    }
    everyone: list[dict[str, str]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, digests)
    return tuple(name for name in digests if len({digest[name] for digest in everyone}) > 1)


def _note(job: Job, found: Stage) -> None:
    """Keep a result; of the errors of several ranks the first one, which the others follow from."""
    try:
        with open(result_file(job.folder, found.world, found.stage), "x") as file:
            json.dump(found.model_dump(mode="json"), file)
    except FileExistsError:
        return


def result_file(folder: str, world: int, stage: int) -> Path:
    """Where a result is noted."""
    return Path(folder) / f"result-{world}-{stage}.json"


def results(folder: str) -> Sequence[Stage]:
    """All results that were noted."""
    files = [result_file(folder, world, stage) for world in WORLDS for stage in STAGES]
    return [Stage.model_validate_json(file.read_text()) for file in files if file.exists()]


if __name__ == "__main__":
    main(sys.argv[1])
