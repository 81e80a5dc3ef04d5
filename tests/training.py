"""Trainings that tests run on several ranks: importable there, by name."""

import contextlib
import time
from dataclasses import replace

from examples import Autoencoder

from genloom_platform.config import Checkpoints, RunConfig
from genloom_platform.store import Store
from genloom_platform.train import checkpoint, showing
from genloom_platform.train.saver import Saver

STEPS = 20
EVERY = 4


def run_config(stage=0, accumulate=1, **settings):
    return RunConfig(
        generator={"name": "example"},
        data="digits",
        steps=STEPS,
        global_batch=32,
        accumulate=accumulate,
        log_every=5,
        deepspeed={"zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0}},
        **settings,
    )


def losses(store_url, kind, cases, settings):
    """The metrics of every step and the final weights' sum, for each case; runs on every rank."""
    import torch.distributed as dist

    from genloom_platform.data import manifest as manifests
    from genloom_platform.data.stream import Stream, local_batches
    from genloom_platform.store import Store
    from genloom_platform.train.loop import train

    store = Store(store_url)
    found = []
    for stage, accumulate in cases:
        config = run_config(stage, accumulate, **settings)
        stream = Stream(
            store, manifests.load(store, "digits"), kind(), config.global_batch, config.seed
        )
        seen = []

        def report(engine, news, seen=seen):
            seen.extend(news.metrics)
            return False

        def batches(number, stream=stream):
            return local_batches(stream, number, 1000, dist.get_rank(), dist.get_world_size())

        engine = train(config, kind(), stream.data, batches, report, lambda *saved: None)
        with engine.gathered() as module:
            whole = dist.get_rank() == 0
            weights = sum(p.double().abs().sum().item() for p in module.parameters()) if whole else 0
        buffers = [buffer.tolist() for buffer in engine.model.buffers()]
        found.append((seen, weights, buffers))
    return found


def load_directly(url, run, step):
    """Load a checkpoint without looking first whether it is good."""
    from types import SimpleNamespace

    engine = SimpleNamespace(rank=0, world=1, replicates=True, config=run_config())
    return checkpoint.load(Store(url), run, engine, step)


def on_a_full_disk(url, folder):
    """Train on a disk that is full once the first checkpoint is committed."""

    def fill(news):
        store = Store(url)
        if news.step == EVERY + 2 and checkpoint.find(store, "full").step:
            with contextlib.suppress(OSError), open(f"{folder}/filler", "wb", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass

    return session(url, Autoencoder, "full", STEPS, on_report=fill)


def in_s3(environment, url, kind, run, steps):
    """The same as `session` in a store that this environment leads to."""
    import os

    os.environ.update(environment)
    return session(url, kind, run, steps)


def slowly_copied(url, run, stage):
    """Train one step past a checkpoint that is long in copying; whether each update that waited waited long."""
    from genloom_platform.train.snapshot import Copy

    waited, finish, settle = [], Copy.finish, Copy.settle

    def slow(copy):
        time.sleep(0.5)
        finish(copy)

    def watched(copy):
        begun = time.monotonic()
        settle(copy)
        waited.append(time.monotonic() - begun > 0.1)

    Copy.finish, Copy.settle = slow, watched
    try:
        session(url, Autoencoder, run, EVERY + 1, stage)
    finally:
        Copy.finish, Copy.settle = finish, settle
    return waited


def session(
    url, kind, run, steps, stage=1, stop_at=None, on_report=lambda news: None, looking=False, **settings
):
    """Train a run to a step, from where it stands; returns the losses seen and the checkpoints kept."""
    import torch.distributed as dist

    from genloom_platform.data import manifest as manifests
    from genloom_platform.data.stream import Stream, local_batches
    from genloom_platform.train.loop import train

    store = Store(url)
    zero = {"stage": stage, "stage3_param_persistence_threshold": 0} | settings.pop("zero", {})
    defaults = {
        "generator": {"name": "example"}, "data": "digits", "global_batch": 24, "log_every": 1, "average": 0.9,
        "checkpoint": Checkpoints(every=EVERY, keep=2), "deepspeed": {"zero_optimization": zero},
    }  # fmt: skip
    config = RunConfig(steps=steps, **(defaults | settings))
    stream = Stream(store, manifests.load(store, "digits"), kind(), config.global_batch, config.seed)
    seen, savers = {}, []

    def report(engine, news):
        seen[news.step] = news.metrics[-1]
        on_report(news)
        return news.step == stop_at

    def resume(engine):
        savers.append(Saver(store, run, engine))
        found = checkpoint.find(store, run)
        return checkpoint.load(store, run, engine, found.step) if found.step else 0

    def batches(number):
        return local_batches(stream, number, 1000, dist.get_rank(), dist.get_world_size())

    def save(engine, step, metrics):
        savers[0].save(step, metrics)

    def show(engine, step):
        with engine.shown() as module:
            if module:
                showing.samples(kind(), module, showing.prompts(stream, config.samples))

    looked = {"show": show} if looking else {}
    train(config, kind(), stream.data, batches, report, save, resume, **looked)
    savers[0].wait()
    dist.barrier()
    return seen, store.names(checkpoint.folder(run))


def validated(url, stages, settings=None):
    """The metrics of every step with a look at other rows each fourth, and without, by ZeRO stage."""
    from genloom_platform.config import Validation

    looked = Validation.model_validate(settings or {"share": 0.25})
    return [[_steps(url, stage, looked), _steps(url, stage, None)] for stage in stages]


def _steps(url, stage, validation):
    import torch.distributed as dist

    config = run_config(stage, checkpoint=Checkpoints(every=4, keep=1), validation=validation)
    config = config.model_copy(update={"generator": {"name": "example-moody"}, "steps": 12})
    name = f"validated-{dist.get_world_size()}-{stage}-{validation is None}"
    # Without validation the same rows are left out, so that the losses can be compared.
    return list(reported(url, name, config, held_out=4).values())


def reported(url, name, config, held_out=0):
    """What rank 0 reports of a run that is trained as a worker trains it, but without Ray, by step."""
    from types import SimpleNamespace

    import torch.distributed as dist

    from genloom_platform.data.stream import local_batches
    from genloom_platform.train.worker import Job, Rank

    rank, world = dist.get_rank(), dist.get_world_size()
    job = Job(Store(url), name, config, "digits", None, 1, world, 0, release=False)
    seen = {}

    def report(news):
        first = news.step - len(news.metrics) + 1
        seen.update(enumerate(news.metrics, first))
        return False

    def batches(stream, number):
        return local_batches(replace(stream, held_out=held_out), number, 1000, rank, world)

    line = SimpleNamespace(
        report=report,
        saved=lambda step, metrics, commit: commit(),
        ended=lambda step: None,
        beating=lambda clock: contextlib.nullcontext(),
    )
    Rank(job, rank, batches, line).train()
    return seen
