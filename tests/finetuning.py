"""Finetunes that tests run on several ranks: importable there, by name."""

from genloom_platform.config import resolve
from genloom_platform.data import manifest as manifests
from genloom_platform.data.stream import Stream, local_batches
from genloom_platform.models import release
from genloom_platform.models.finetune import request
from genloom_platform.models.registry import Registry
from genloom_platform.models.start import plan, prepare
from genloom_platform.store import Store
from genloom_platform.train import checkpoint
from genloom_platform.train.saver import Saver


def zero(stage):
    """DeepSpeed's settings for a stage, with nothing kept whole."""
    return {"zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0}}


def asked(store, parent, /, **settings):
    """A resolved finetune of a model."""
    defaults = {"global_batch": 32, "log_every": 1, "steps": 8, "evaluate": False}
    return resolve(request(parent, (defaults | settings).items()), store)


def session(url, config, start, run, stop_at=None):
    """Train a run to its end or a step, from where it stands, on every rank; returns the losses by step.

    What has reached its end is exported.
    """
    import torch.distributed as dist

    from genloom_platform.train.loop import train

    store = Store(url)
    trainable = config.trainable()
    manifest = manifests.load(store, config.data)
    stream = Stream(store, manifest, trainable, config.global_batch, config.seed)
    found = checkpoint.find(store, run)
    seen, savers = {}, []

    def report(engine, news):
        seen[news.step] = news.metrics[-1]
        return news.step == stop_at

    def resume(engine):
        savers.append(Saver(store, run, engine))
        return checkpoint.load(store, run, engine, found.step) if found.step else 0

    def batches(number):
        return local_batches(stream, number, 1000, dist.get_rank(), dist.get_world_size())

    def save(engine, step, metrics):
        savers[0].save(step, metrics)

    def begin(model):
        if start:
            prepare(store, config, start, stream.data, model, fresh=not found.step)

    engine = train(config, trainable, stream.data, batches, report, save, resume, prepare=begin)
    savers[0].wait()
    if config.steps in seen:
        with engine.gathered() as module:
            if dist.get_rank() == 0:
                release.export(store, run, config, module, manifest, start)
    dist.barrier()
    return seen


def several(url, sessions):
    """Several trainings, one after the other, as `(config, start, run)`; returns the losses of each."""
    return [session(url, *each) for each in sessions]


def registered(store, ranks, config, run):
    """Train on some ranks and register what comes out; returns the version and the losses by step."""
    from ranks import on_ranks

    registry = Registry(store)
    registry.names()  # as a run opens it before it exports anything
    seen = on_ranks(ranks, session, store.url, config, plan(store, config), run)[0]
    made = release.read(store, f"models/{config.model_name}/{run}")
    return registry.register(made, {}, None), seen


def only(store, folder, dataset, name, classes, rows=None, seed=0):
    """A dataset of pictures of some classes, by way of a folder; of each class so many rows to train on."""
    import random
    import shutil

    from genloom_platform.data.export import export
    from genloom_platform.data.imports import import_dataset

    whole, part = folder / f"{dataset}-all", folder / name
    if not whole.exists():
        export(store, manifests.load(store, dataset), whole, "folder")
    for source in sorted(path for path in whole.glob("*/*") if path.name in classes):
        files = sorted(source.iterdir())
        if rows and source.parent.name == "train":
            files = random.Random(seed).sample(files, rows)
        target = part / source.relative_to(whole)
        target.mkdir(parents=True)
        for file in files:
            shutil.copy(file, target)
    return import_dataset(store, "imagefolder", str(part), name, {})
