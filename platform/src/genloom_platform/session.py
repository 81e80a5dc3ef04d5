"""The platform in team code: what `genloom.connect()` gives on a machine that has it installed.

studio = genloom.connect()
run = studio.train("image-vae", data="digits", steps=400)
run.model.generate(label=3)[0].save("three.png")
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import genloom
from genloom.errors import RequestError
from genloom_platform.config import RunConfig, put, resolve
from genloom_platform.data import manifest as manifests
from genloom_platform.data.manifest import Manifest
from genloom_platform.models import loading
from genloom_platform.models.handles import ModelHandle, Models
from genloom_platform.store import Store

if TYPE_CHECKING:
    from genloom_platform.train.preview import Preview


class Session:
    """The platform on one store. The words are the command line's."""

    def __init__(self, store: str | None = None) -> None:
        self.store = Store(store)

    @property
    def datasets(self) -> list[Manifest]:
        """Every version of every dataset."""
        return manifests.list_datasets(self.store)

    @property
    def models(self) -> Models:
        """The registered models, by `name`, `name@number` or `name@alias`."""
        return Models(self.store)

    def import_data(
        self, format: str, source: str | None = None, dataset: str | None = None, **options: Any
    ) -> Manifest:
        """Bring a source into the store, `options` being the keys of a recipe: `genloom data import`."""
        from genloom_platform.data.imports import import_dataset

        return import_dataset(self.store, format, source, dataset, options)

    def clean_data(self, dataset: str, new: str, **settings: Any) -> Manifest:
        """Make a dataset of another by a recipe: `genloom data clean`, `genloom data augment`.

        Args:
            dataset: `name` or `name@version`.
            new: The new dataset's name.
            settings: Keys of the recipe, as in `clean={"exact_duplicates": True}` or `augment={"copies": 2}`.
        """
        from genloom_platform.data.derive import clean

        return clean(self.store, dataset, new, settings)

    def annotate_data(
        self, dataset: str, new: str, *, model: str, column: str | None = None
    ) -> Manifest:
        """Label a dataset by a registered classifier: `genloom data annotate --with`."""
        from genloom_platform.data.derive import annotate

        return annotate(self.store, dataset, new, model, column)

    def augment_data(
        self,
        dataset: str,
        new: str,
        *,
        model: str,
        count: int,
        balance: str | None = None,
        seed: int = 0,
    ) -> Manifest:
        """Add samples of a trained generator to a dataset: `genloom data augment --with`."""
        from genloom_platform.data.derive import extend

        return extend(self.store, dataset, new, model, count, balance, seed)

    def train(
        self, generator: str, *, data: str, name: str | None = None, **settings: Any
    ) -> "RunHandle":
        """Train a generator and register the result: `genloom train`.

        Args:
            generator: Its name.
            data: The dataset.
            name: The run's name.
            settings: Any key of the run or of the generator; a dot is written as two underscores, as in
                `scale__workers=2`. `workers` is short for that one.
        """
        config = self._resolved(generator, data, settings)
        return self._run(config, name)

    def finetune(
        self, model: str, /, *, data: str, name: str | None = None, **settings: Any
    ) -> "RunHandle":
        """Train a registered model further and register the result: `genloom finetune`.

        Args:
            model: The parent: `name`, `name@number` or `name@alias`.
            data: The dataset.
            name: The run's name.
            settings: `freeze`, `lora` and `rates`, as in `lora={"rank": 4}`, and all that `train` takes;
                `model` is the name under which the result is registered, the parent's where None is given.
        """
        from genloom_platform.models.finetune import request

        words = [(_key(key), value) for key, value in settings.items()]
        return self._run(resolve(request(model, [*words, ("data", data)]), self.store), name)

    def _run(self, config: RunConfig, name: str | None) -> "RunHandle":
        from genloom_platform.train import launch

        return RunHandle(self.store, launch.train(self.store, config, name=name))

    def preview(self, generator: str, *, data: str, **settings: Any) -> "Preview":
        """What a run would need, without starting it: `genloom train --dry-run`.

        Args:
            generator: Its name.
            data: The dataset.
            settings: As for `train`.

        Returns:
            Its size, whether it fits its workers' memory at each ZeRO stage, its pace by a short trial, its cost.
        """
        from genloom_platform.train.preview import preview

        return preview(self.store, self._resolved(generator, data, settings))

    def _resolved(self, generator: str, data: str, settings: Mapping[str, Any]) -> RunConfig:
        values: dict[str, Any] = {"generator": {"name": generator}, "data": data}
        for key, value in settings.items():
            put(values, _key(key), value)
        return resolve(values, self.store)

    def sweep(
        self, source: str | Mapping[str, Any], *, name: str | None = None, **settings: Any
    ) -> "SweepHandle":
        """Train a generator with many settings and register the best: `genloom sweep`.

        Args:
            source: A YAML file, or its content: `{"run": {…}, "space": {…}, "metric": "loss", …}`.
            name: The sweep's name; the file's where none is given. One that was cut off goes on.
            settings: Keys of the sweep over those of the source, as in `trials=30`.
        """
        from genloom_platform.sweep import launch
        from genloom_platform.sweep import plan as plans

        if isinstance(source, str):
            values, name = plans.read(source, []), name or Path(source).stem
        else:
            values = dict(source)
        if name is None:
            raise RequestError("give the sweep a name, as in sweep({…}, name='rates')")
        return SweepHandle(self.store, launch.sweep(self.store, {**values, **settings}, name))

    def evaluate(self, model: str, **options: Any) -> dict[str, float]:
        """Evaluate a registered model: `genloom evaluate`."""
        from genloom_platform.evaluate.evaluate import evaluate

        return evaluate(self.store, model, **options)[1]

    def load_model(self, name: str) -> genloom.LoadedModel:
        """A registered model's generator and module."""
        return loading.load(self.store, name)


def _key(word: str) -> str:
    """A key of the run or the generator, as Python's names can write it."""
    return "scale.workers" if word == "workers" else word.replace("__", ".")


class RunHandle:
    """A run that has ended."""

    def __init__(self, store: Store, trained: Any) -> None:
        self._store, self._trained = store, trained
        self.name: str = trained.run.name
        self.state: str = trained.status.state

    def __repr__(self) -> str:
        return f"<run {self.name}: {self.state}>"

    @property
    def metrics(self) -> dict[str, float]:
        """The last step's metrics, and the evaluation's."""
        return dict(self._trained.status.metrics)

    @property
    def model(self) -> ModelHandle:
        """What was registered."""
        return ModelHandle(self._store, self._trained.model)


class SweepHandle:
    """A sweep that has ended."""

    def __init__(self, store: Store, swept: Any) -> None:
        self._store, self._swept = store, swept
        self.name: str = swept.sweep.name
        self.state: str = swept.status.state

    def __repr__(self) -> str:
        return f"<sweep {self.name}: {self.state}>"

    @property
    def trials(self) -> list[Any]:
        """All trials by number: `params`, `metrics`, `state`, `step`, `run`."""
        return list(self._swept.trials)

    @property
    def models(self) -> list[ModelHandle]:
        """What was registered, the best first."""
        models = Models(self._store)
        return [models[trial.model] for trial in self._swept.best]

    @property
    def report(self) -> str:
        """Where the report is."""
        return f"{self._store.url}/sweeps/{self.name}/report.html"
