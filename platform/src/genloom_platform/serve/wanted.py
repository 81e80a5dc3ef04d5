"""What is to be served, as one YAML file or one command line says it.

models:
  - image-vae@champion                   # its newest version under that alias, whatever it becomes
  - model: char-rnn@7
    replicas: 0-4                        # with load; to zero when nobody asks
    canary: {version: char-rnn@8, share: 5%}
    shadow: {version: char-rnn@9}
  - {model: digits, pool: small}         # one of many that share processes
  - {model: names, pool: small}
pools:
  small: {hold: 8, replicas: 2}          # each of the two holds 8 models, and puts one away for another
host: 127.0.0.1
port: 8000
tls: {cert: models.pem, key: models.key}
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from genloom.errors import InvalidConfig, RequestError
from genloom.problems import problems_of
from genloom_platform.serve.speed import Speed
from genloom_platform.serve.tls import Tls
from genloom_platform.settings import Settings


def _share(value: Any) -> Any:
    """`5%` as 0.05."""
    if isinstance(value, (int, float)) and value > 1:
        raise ValueError("is more than all; write 5% or 0.05")
    if isinstance(value, str) and value.endswith("%"):
        try:
            return float(value[:-1]) / 100
        except ValueError:
            return value
    return value


Ingress = Literal["gateway", "haproxy"]
Share = Annotated[float, BeforeValidator(_share)]


class Replicas(Settings):
    """How many processes answer for a version."""

    min: int = Field(default=1, ge=0)
    """The fewest; 0 lets it end when nobody asks, and start again when somebody does."""
    max: int = Field(default=1, ge=1)
    """The most."""
    target: float = Field(default=32, gt=0)
    """Requests at once that one replica is meant for; at more of them others are started."""
    up_s: float = Field(default=5, ge=0)
    """How long it must be too much before another is started."""
    down_s: float = Field(default=60, ge=0)
    """How long it must be too little before one is ended."""
    idle_s: float = Field(default=300, ge=0)
    """How long nobody may ask before the last one is ended, where `min` is 0."""

    @model_validator(mode="before")
    @classmethod
    def _from_words(cls, value: Any) -> Any:
        """`2` and `1-4` are short for the fewest and the most."""
        if isinstance(value, int) and not isinstance(value, bool):
            return {"min": value, "max": value}
        if isinstance(value, str):
            words = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", value)
            if not words:
                raise ValueError("is no number of processes; give it as in 2, 1-4 or 0-4")
            return {"min": words[1], "max": words[2] or words[1]}
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError("must be the fewest and the most; give it as in 1-4")
        return self


class Canary(Settings):
    """A version that answers a share of the requests on trial."""

    version: str
    """`name@version` or `name@alias`."""
    share: Share = Field(default=0.05, gt=0, lt=1)
    """Of the requests to the model; `5%` is understood."""
    max_error_rate: Share = Field(default=0.02, ge=0, le=1)
    """At more failures than this it is taken back."""
    max_latency_ratio: float = Field(default=2.0, gt=1)
    """Where nine of ten of its requests take more times as long as those of the other version, it is taken
    back."""
    min_requests: int = Field(default=50, ge=1)
    """Requests before it is judged."""


class Shadow(Settings):
    """A version that is asked what others are asked; its answers are thrown away."""

    version: str
    """`name@version` or `name@alias`."""
    share: Share = Field(default=1.0, gt=0, le=1)
    """Of the requests to the model."""


class Room(Settings):
    """The processes that answer: how many, where, and how fast."""

    replicas: Replicas = Field(default_factory=Replicas)
    cpus: float = Field(default=1.0, ge=0)
    """Of a replica."""
    gpus: float = Field(default=0, ge=0)
    """Of a replica: a part of one, as in 0.25, which four share, or whole ones."""
    resources: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Other resources that a node must have for a replica, by Ray's names: `{"accelerator_type:L4": 0.001}`."""
    speed: Speed = Field(default_factory=Speed)
    """Precision, compilation, device and warm-up of each replica."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.gpus > 1 and self.gpus % 1:
            raise ValueError(
                f"gpus = {self.gpus:g}: a replica has whole GPUs, or a part of one; give 0.5 or 2"
            )
        if self.speed.device == "cuda" and not self.gpus:
            raise ValueError(
                "speed.device = cuda: the replicas have no GPU; give them one, as in gpus: 1"
            )
        if self.speed.device == "cpu" and self.gpus:
            raise ValueError(
                f"gpus = {self.gpus:g}: with speed.device = cpu nothing would use them; leave out one of the two"
            )
        if self.speed.precision == "int8" and self.gpus:
            raise ValueError(
                f"gpus = {self.gpus:g}: int8 is computed on a CPU; give bf16 on a GPU, or leave gpus out"
            )
        return self

    @property
    def room(self) -> "Room":
        """The same without whose it is."""
        return Room(**{name: getattr(self, name) for name in Room.model_fields})


class Pool(Room):
    """Processes that several models share.

    Each holds some models, loads another one when it is asked for, and puts that away for it which was not asked
    for the longest time. What a model answers is the same as from a process of its own; the first request after
    it was put away waits until it is loaded again.
    """

    hold: int = Field(default=4, ge=1)
    """Models that a replica holds at once."""


class Served(Room):
    """A model, and how it is served."""

    model: str
    """`name`, `name@version` or `name@alias`; where the alias moves, the endpoint follows."""
    pool: str | None = None
    """The pool whose processes answer for it; processes of its own where it has none. A version that runs
    already stays where it is."""
    canary: Canary | None = None
    shadow: Shadow | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.partition("@")[0]

    @property
    def references(self) -> list[str]:
        """All versions that it takes."""
        trials = [trial.version for trial in (self.canary, self.shadow) if trial]
        return [self.model, *trials]

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _of_one_name(self) -> Self:
        for reference in self.references[1:]:
            if reference.partition("@")[0] != self.name or "@" not in reference:
                raise ValueError(
                    f"canary and shadow are versions of {self.name}; name one, as in {self.name}@7"
                )
        return self

    @model_validator(mode="after")
    def _at_home_in_its_pool(self) -> Self:
        if self.pool is not None and self.room != Room():
            own = ", ".join(name for name, value in self.room if value != getattr(Room(), name))
            raise ValueError(f"{own}: {self.model} is in the pool {self.pool}; say it of the pool")
        if self.pool is not None and self.canary:
            raise ValueError(
                f"canary = {self.canary.version}: in a pool it would be judged by how often it is loaded; give "
                f"{self.name} replicas of its own for the trial, without pool"
            )
        return self


class Wanted(Settings):
    """All that an endpoint is to serve, and where."""

    models: tuple[Served, ...]
    pools: dict[str, Pool] = Field(default_factory=dict)
    """Processes that several models share, by name."""
    host: str = "127.0.0.1"
    """The address to listen on; beyond loopback keys are asked for."""
    port: int = Field(default=8000, ge=1, le=65535)
    tls: Tls | None = None
    """Its certificate and key; plain HTTP where they are left out, for loopback or a proxy that speaks TLS."""
    ingress: Ingress = "gateway"
    """What takes the callers' connections: the gateway's own process, or HAProxy (`haproxy`) before it."""
    cors: tuple[str, ...] = ()
    """Pages in browsers that may ask, as in `https://app.acme.example`, or `*`."""
    store: str | None = None
    """Where the models lie; GENLOOM_STORE where it is left out."""

    @property
    def cpus(self) -> float:
        """What its replicas may take at most, with the room that a change of version needs."""
        alone = [model for model in self.models if model.pool is None]
        each = [model.replicas.max * model.cpus * len(model.references) for model in alone]
        shared = [pool.replicas.max * pool.cpus for pool in self.pools.values()]
        change = max((model.replicas.max * model.cpus for model in alone), default=0)
        return sum(each) + sum(shared) + change

    @field_validator("models")
    @classmethod
    def _named_once(cls, models: tuple[Served, ...]) -> tuple[Served, ...]:
        if not models:
            raise ValueError("names none; name one or more")
        references = [model.model for model in models]
        names = [model.name for model in models]
        for model in models:
            if references.count(model.model) > 1:
                raise ValueError(f"{model.model} is named twice; name each once")
            if len(model.references) > 1 and names.count(model.name) > 1:
                raise ValueError(
                    f"{model.name} is served in several versions, and then takes no canary or shadow"
                )
        return models

    @model_validator(mode="after")
    def _reached(self) -> Self:
        if self.ingress == "haproxy" and self.tls:
            raise ValueError(
                "ingress = haproxy: Serve's HAProxy speaks no TLS; leave out one of the two, or let a proxy of "
                "yours speak it"
            )
        return self

    @model_validator(mode="after")
    def _pools_used(self) -> Self:
        used = {model.pool for model in self.models if model.pool is not None}
        for name in sorted(used - self.pools.keys()):
            raise ValueError(f"pool = {name}: there is none of this name; describe it under pools")
        for name in sorted(self.pools.keys() - used):
            raise ValueError(
                f"pools.{name}: no model is in it; name it as the pool of some, or leave it out"
            )
        return self


def read(file: Path) -> Wanted:
    """What a YAML file says.

    Raises:
        RequestError: It cannot be read.
        InvalidConfig: It says something wrong; all of it is told.
    """
    try:
        values = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise RequestError(f"{file}: it cannot be read: {reason}; give a YAML file") from error
    return checked(values, str(file))


def checked(values: Any, where: str) -> Wanted:
    """The configuration that values make.

    Raises:
        InvalidConfig: They are wrong; all that is wrong is told.
    """
    try:
        return Wanted.model_validate(values)
    except ValidationError as error:
        raise InvalidConfig(where, problems_of(error, Wanted)) from error
