"""Trainings that tests run on several ranks: importable there, by name."""

from genloom_platform.config import Checkpoints, RunConfig
from genloom_platform.store import Store
from genloom_platform.train import checkpoint

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

        def report(step, metrics, rate, seen=seen):
            seen.extend(metrics)
            return False

        def batches(number, stream=stream):
            return local_batches(stream, number, 1000, dist.get_rank(), dist.get_world_size())

        engine = train(config, kind(), stream.data, batches, report, lambda engine, step: None)
        with engine.gathered() as module:
            whole = dist.get_rank() == 0
            weights = sum(p.double().abs().sum().item() for p in module.parameters()) if whole else 0
        buffers = [buffer.tolist() for buffer in engine.model.buffers()]
        found.append((seen, weights, buffers))
    return found


def session(url, kind, run, steps, stage=1, stop_at=None):
    """Train a run to a step, from where it stands; returns the losses seen and the checkpoints kept."""
    import torch.distributed as dist

    from genloom_platform.data import manifest as manifests
    from genloom_platform.data.stream import Stream, local_batches
    from genloom_platform.train.loop import train

    store = Store(url)
    config = RunConfig(
        generator={"name": "example"}, data="digits", steps=steps, global_batch=32, log_every=1,
        average=0.9, checkpoint=Checkpoints(every=EVERY, keep=2),
        deepspeed={"zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0}},
    )  # fmt: skip
    stream = Stream(store, manifests.load(store, "digits"), kind(), config.global_batch, config.seed)
    seen = {}

    def report(step, metrics, rate):
        seen[step] = metrics[-1]
        return step == stop_at

    def resume(engine):
        newest = checkpoint.newest(store, run)
        return checkpoint.load(store, run, engine, newest) if newest else 0

    def batches(number):
        return local_batches(stream, number, 1000, dist.get_rank(), dist.get_world_size())

    train(
        config, kind(), stream.data, batches, report,
        lambda engine, step: checkpoint.save(store, run, engine, step), resume,
    )  # fmt: skip
    return seen, store.names(checkpoint.folder(run))
