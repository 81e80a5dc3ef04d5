"""`RunConfig`: all that describes a run, from one YAML file and `key.path=value` overrides.

Errors come all at once, before anything is started or written.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

import genloom
from genloom import registry
from genloom.errors import GenloomError, InvalidConfig, Problem, RequestError, UnknownName
from genloom.problems import problems_of
from genloom_platform.data import manifest as manifests
from genloom_platform.models.finetune import Finetune, inherited
from genloom_platform.settings import Settings, read_yaml
from genloom_platform.store import Store
from genloom_platform.train.schedules import Schedule


class Scale(Settings):
    """How many workers train, and what each is given."""

    workers: int | tuple[int, int] = Field(default=1)
    """Data-parallel workers; two numbers are the fewest and the most, as in `[2, 8]`: the run goes on with
    those that are left, and takes new ones in."""
    cpus_per_worker: float = Field(1, gt=0)
    gpus_per_worker: float = Field(0, ge=0)

    @property
    def fewest(self) -> int:
        """The fewest workers that may train."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def most(self) -> int:
        """The most workers that may train."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    @property
    def elastic(self) -> bool:
        """Whether the number of workers may change during the run."""
        return self.fewest < self.most

    @field_validator("workers")
    @classmethod
    def _at_least_one(cls, workers: int | tuple[int, int]) -> int | tuple[int, int]:
        fewest, most = workers if isinstance(workers, tuple) else (workers, workers)
        if not 1 <= fewest <= most:
            raise ValueError("must be a number above 0, or the fewest and the most, as in [2, 8]")
        return workers


class Checkpoints(Settings):
    """When a run is saved."""

    every: int = Field(500, ge=1)
    """Steps between two checkpoints; the last step always has one."""
    keep: int = Field(2, ge=1)
    """How many of the newest stay."""
    best: str | None = None
    """A metric of training, as in `loss`: the checkpoint with its best value stays as well."""
    best_is: Literal["lowest", "highest"] = "lowest"


class Samples(Settings):
    """What a run shows of its generator while it trains."""

    every: int = Field(500, ge=0)
    """Steps between two sheets of samples; 0 for none. What a run ends with is in its model."""
    count: int = Field(16, ge=1, le=256)
    """Samples of a sheet, seeded 0, 1, 2 …, classes in turn."""
    prompt: dict[str, Any] = Field(default_factory=dict)
    """Fields of their prompts, instead of the prompt's own defaults and the dataset's classes."""

    def due(self, step: int) -> bool:
        """Whether a sheet follows a step."""
        return self.every > 0 and step % self.every == 0


class Recovery(Settings):
    """What a run does when something fails."""

    retries: int = Field(default=3, ge=0)
    """How often it goes on from its newest checkpoint after a failure, since it last came further by one."""
    hung_s: float = Field(default=60, gt=0)
    """Seconds without a sign of a worker, or without a step where steps take far less, after which it is
    killed and replaced."""
    nan: Literal["stop", "skip", "rollback"] = "stop"
    """At a loss that is NaN or infinite: fail; leave that update out, at the cost of waiting for each loss;
    or go back to the newest checkpoint and pass that step's batch over."""
    nan_limit: int = Field(default=10, ge=1)
    """How many steps may be passed over in a run."""


class Validation(Settings):
    """What a run is measured on while it trains, whenever it is saved."""

    share: float | None = Field(default=None, gt=0, le=0.5)
    """The share of the training rows that is held out for it; 0.1 where no split is named."""
    split: str | None = None
    """A split of the dataset instead."""
    rows: int = Field(default=2000, ge=1)
    """At most so many rows, spread over all of them."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.share is not None and self.split is not None:
            raise ValueError("takes a share of the training rows or a split, not both")
        return self

    @property
    def held_out(self) -> int:
        """One training row of so many is held out; 0 for none."""
        return 0 if self.split else round(1 / (self.share or 0.1))


class RunConfig(Settings):
    """One training."""

    generator: dict[str, Any]
    """The generator's name and its fields: `{name: image-vae, latent: 64}`."""
    data: str
    """The dataset: `name`, `name@version`."""
    model: str | None = None
    """The name under which the result is registered; the generator's where none is given."""
    finetune: Finetune | None = None
    """The model that it starts from, and what of it trains; from nothing where None."""
    steps: int = Field(1000, ge=1)
    """Optimizer steps in all."""
    global_batch: int = Field(64, ge=1)
    """Rows that all workers together read for a step (for each repeat of it); the same for every
    number of workers."""
    accumulate: int = Field(1, ge=1)
    """Micro batches into which each worker splits its share, to fit its memory."""
    optimizer: dict[str, Any] = Field(default_factory=dict)
    """Optimizer settings for all objectives, over the generator's own: `{name: AdamW, lr: 1e-3}`."""
    optimizers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The same for one objective, by its name, over `optimizer`."""
    clip: float = Field(0, ge=0)
    """The greatest norm of a gradient; 0 leaves gradients as they are."""
    average: float | None = Field(None, gt=0, lt=1)
    """Decay of averaged weights, as in 0.999; evaluation and generation then use the average."""
    schedule: Schedule = Field(default_factory=lambda: Schedule.model_validate({}))
    """How the learning rates go: `{name: cosine, warmup: 100}`."""
    schedules: dict[str, Schedule] = Field(default_factory=dict)
    """The same for one objective, by its name, instead of `schedule`."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What autocast computes in; weights and the optimizer's state stay fp32."""
    recompute: list[str] = Field(default_factory=list)
    """Modules whose activations are computed again in the backward pass instead of kept: `[blocks.*]`."""
    compile: bool = False
    """Compile the model by `torch.compile`."""
    deepspeed: dict[str, Any] = Field(default_factory=dict)
    """DeepSpeed's own JSON, passed on as it is: `{zero_optimization: {stage: 2}}`."""
    scale: Scale = Field(default_factory=lambda: Scale.model_validate({}))
    checkpoint: Checkpoints = Field(default_factory=lambda: Checkpoints.model_validate({}))
    recovery: Recovery = Field(default_factory=lambda: Recovery.model_validate({}))
    samples: Samples = Field(default_factory=lambda: Samples.model_validate({}))
    profile: bool = False
    """Write a trace of some steps of every worker, which Perfetto opens (ui.perfetto.dev)."""
    validation: Validation | None = None
    """Measure the run on rows that it does not train on: `{share: 0.1}`. Its metrics are named
    `validation/loss`, `validation/accuracy` and so on; without it nothing is held out."""
    log_every: int = Field(10, ge=1)
    """Steps between two reports of metrics, at most; slow steps are reported more often."""
    evaluate: bool = True
    """Evaluate the model on the dataset's test split before it is registered."""
    seed: int = Field(0, ge=0)

    @property
    def generator_name(self) -> str:
        """The name of the generator."""
        return str(self.generator["name"])

    @property
    def model_name(self) -> str:
        """The name under which the result is registered."""
        return self.model or self.generator_name

    @property
    def zero_stage(self) -> int:
        """DeepSpeed's ZeRO stage."""
        return int(self.deepspeed.get("zero_optimization", {}).get("stage", 0))

    def schedule_of(self, objective: str) -> Schedule:
        """The learning-rate schedule of an objective."""
        return self.schedules.get(objective, self.schedule)

    def trainable(self) -> genloom.Trainable:
        """The configured generator."""
        return registry.create(self.generator_name, _without_name(self.generator))


def resolve(values: Mapping[str, Any], store: Store) -> RunConfig:
    """A checked configuration, with every field of the generator written out.

    Raises:
        InvalidConfig: All errors of the run, the generator and the dataset, where there are several kinds.
        RequestError: The one thing that is wrong, such as an unknown generator or a dataset that does not fit.
    """
    problems: list[Problem] = []
    whole: list[GenloomError] = []
    try:
        values = inherited(values, store)
        trainable = _trainable(values.get("generator"))
    except InvalidConfig as error:
        problems += [Problem(f"generator.{p.where}", p.value, p.rule, p.remedy) for p in error.problems]
        trainable = None
    except GenloomError as error:
        whole.append(error)
        trainable = None
        values = {"generator": {"name": ""}, **values}
    config, faults = _run(values)
    problems += faults
    if config.data and not any(problem.where == "data" for problem in problems):
        try:
            found = manifests.load(store, config.data)
            if trainable:
                found.facts_for(trainable)
            if config.validation and config.validation.split:
                found.shards_of(config.validation.split)
        except RequestError as error:
            whole.append(error)
    from genloom_platform import checks

    problems += checks.of_the_run(config)
    if trainable and not any(problem.where.startswith("optimizer") for problem in problems):
        problems += checks.of_objectives(config, trainable)
    if len(whole) == 1 and not problems:
        raise whole[0]
    if problems or whole or trainable is None:
        raise InvalidConfig("the run's configuration", [*map(as_problem, whole), *problems])
    full = {"name": config.generator_name, **trainable.model_dump(mode="json")}
    return config.model_copy(update={"generator": full})


def _run(values: Mapping[str, Any]) -> tuple[RunConfig, list[Problem]]:
    """The run as far as it is valid, so that the rest can be checked, and what is not."""
    defaults = {"generator": {"name": ""}, "data": ""}
    try:
        return RunConfig.model_validate(dict(values)), []
    except ValidationError as error:
        wrong = {str(item["loc"][0]) for item in error.errors()}
        sound = {key: value for key, value in values.items() if key not in wrong}
        return RunConfig.model_validate(defaults | sound), problems_of(error, RunConfig)


def _trainable(generator: Any) -> genloom.Trainable | None:
    if not isinstance(generator, dict) or not isinstance(generator.get("name"), str):
        problem = Problem("name", "", "is required and missing", "give generator: {name: image-vae}")
        raise InvalidConfig("the generator", [problem])
    return registry.create(generator["name"], _without_name(generator))


def as_problem(error: GenloomError) -> Problem:
    """An error that stands alone, as one of several."""
    kind = error.kind if isinstance(error, UnknownName) else ""
    where = {"generator": "generator", "model": "finetune.model"}.get(kind, "data")
    rule, _, remedy = str(error).partition("; ")
    return Problem(where, "", rule, remedy or "change it")


def read_values(source: str, overrides: Iterable[str]) -> dict[str, Any]:
    """The raw configuration: a YAML file's, or `generator: {name: SOURCE}`, with overrides applied.

    Raises:
        RequestError: The file is missing or is no YAML mapping, or an override is no `key=value`.
    """
    values: Any = {"generator": {"name": source}}
    if source.endswith((".yaml", ".yml")):
        values = read_yaml(source)
    for key, value in settings(overrides):
        put(values, key, value)
    return values


def settings(words: Iterable[str]) -> list[tuple[str, Any]]:
    """The keys and values of `key=value` words.

    Raises:
        RequestError: A word is no such pair.
    """
    found: list[tuple[str, Any]] = []
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise RequestError(f"{word!r} is no setting; write key=value, as in steps=1000")
        found.append((key, parse_value(text)))
    return found


def parse_value(text: str) -> Any:
    """A value as YAML reads it, and 1e-3 as the number that a person means."""
    try:
        return float(text) if "e" in text.lower() else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a value at a dotted path. A first part that is no key of the run is the generator's."""
    path = key.split(".")
    nest(values, path if path[0] in RunConfig.model_fields else ["generator", *path], value)


def nest(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a value at a path of keys, making the groups on the way.

    Raises:
        RequestError: What lies on the way is a value.
    """
    for part in path[:-1]:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise RequestError(f"{'.'.join(path)}: {part} is a value ({inner!r}), not a group of keys")
        values = inner
    values[path[-1]] = value


def _without_name(generator: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in generator.items() if key != "name"}
