"""Versions without a training: small networks as they were built, released and registered."""

import datetime
import shutil
import time

import torch

from genloom import registry as plugins
from genloom_platform.config import read_values, resolve
from genloom_platform.data import manifest as manifests
from genloom_platform.models import publish, release
from genloom_platform.models.registry import Registry
from genloom_platform.observe.tracking import Tracking
from genloom_platform.store import Store
from genloom_platform.train import runs
from genloom_platform.train.progress import Report
from genloom_platform.train.runs import Run, Status


class Versions:
    """Makes versions in a store that holds the digits."""

    def __init__(self, store):
        self.store = store
        self._count = 0

    def make(self, generator="image-classifier", *words, evaluated=False, log=()):
        """Release a network with fresh weights as a run of its own, and register it."""
        self._count += 1
        values = read_values(generator, ["data=digits", "steps=3", *words])
        config = resolve(values, self.store)
        manifest = manifests.load(self.store, "digits")
        name = f"run-{self._count}"
        tracking = Tracking(Registry(self.store))
        plugin = plugins.find(generator)
        run = Run(
            name=name,
            config=config,
            dataset=manifest.full_name,
            package=plugin.package,
            package_version=plugin.version,
            tracking_id=tracking.start(name, config, manifest),
            created_at=datetime.datetime.now(datetime.UTC).isoformat(),
        )
        runs.create(self.store, run)
        for step, loss in enumerate(log, 1):
            tracking.log(a_report(step, {"loss": loss}))
        torch.manual_seed(self._count)
        trainable = config.trainable()
        module = trainable.build(manifest.facts_for(trainable))
        release.export(self.store, name, config, module, manifest)
        runs.set_status(self.store, name, Status(state="finished", step=3))
        made = release.read(self.store, f"models/{config.model_name}/{name}")
        if evaluated:
            return publish.publish(self.store, made, tracking.run_id)
        return Registry(self.store).register(made, {"accuracy": self._count / 10}, tracking.run_id)


def a_report(step, metrics):
    return Report(step=step, metrics=[metrics], rows_per_s=100.0, seconds={})


def copy_of(template, folder):
    shutil.copytree(template, folder / "store")
    return Versions(Store((folder / "store").as_uri()))


def await_file(store, pattern):
    """Wait until a thread has written a file of that name."""
    until = time.monotonic() + 30
    while not list(store.folder.glob(pattern)):
        assert time.monotonic() < until
        time.sleep(0.05)
