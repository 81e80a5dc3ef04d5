"""Profiles: how a cluster is started and how it is reached, in a file by its name.

A profile is `NAME.yaml` in `clusters/` of the working folder or in `~/.genloom/clusters`; `local`, this machine,
comes with this package. GENLOOM_CLUSTER names it, or gives its path. Paths in it are relative to its own folder.
It holds no secret: it says where one lies.
"""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from genloom.errors import InvalidConfig, Problem, UnknownName
from genloom.problems import problems_of
from genloom_platform.settings import Settings, read_yaml

VARIABLE = "GENLOOM_CLUSTER"
ENDINGS = (".yaml", ".yml")
OURS = Path(__file__).parent / "clusters"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SECRET = re.compile(
    r"SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|ACCESS_KEY|API_?KEY|PRIVATE|(ACCESS|API|AUTH)_?TOKENS"
    # Of other words these are a part, as in TOKENIZERS, MAX_TOKENS, KEYBOARD and PASSES.
    r"|(TOKEN|(^|_)KEY|(^|_)(DB|PG|SSH)?(PASS|PWD))\d*($|_)",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(r"(_FILE|_PATH)$|^RAY_TLS_|^PWD$", re.IGNORECASE)
"""Paths to secrets, and the shell's working folder."""
_PASSWORD = re.compile(
    r"(//[^/?#\s:\[]*):(?!\d*(?:[/?#\s,;'\"]|$))[^@].*@",  # what follows the colon is no port
    re.DOTALL,
)
"""A user and a password in a URL. Wider than `urlsplit`, which finds none where the password holds a slash."""
_RAYS_OWN = re.compile(r"RAY_(AUTH_|USE_TLS$|TLS_)")
"""What opens or closes Ray."""


def is_secret(name: str) -> bool:
    """Whether a variable's value is a secret, by its name; a path to one is none."""
    return bool(_SECRET.search(name)) and not _NO_SECRET.search(name)


def _in_its_folder(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder", Path())
    return folder / path.expanduser()


Place = Annotated[Path, AfterValidator(_in_its_folder)]
"""A path, relative to the folder of the profile."""


class Price(Settings):
    """An amount of money."""

    amount: float = Field(ge=0)
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    """Its code, as in EUR."""

    def times(self, count: float) -> "Price":
        """So many of it."""
        return Price(amount=self.amount * count, currency=self.currency)

    def __str__(self) -> str:
        return f"{self.amount:,.2f} {self.currency}"


class WorkerType(Settings):
    """A kind of node that trains."""

    cpus: float = Field(ge=0)
    gpus: float = Field(default=0, ge=0)
    accelerator: str = ""
    """What the GPUs are, as in H100."""
    most: int = Field(default=1, ge=0)
    """The most of them that the cluster can have."""
    spot: bool = False
    """Whether one may be taken away at any time; the run then goes on without it."""
    price_per_hour: Price | None = None
    """What one node costs."""


class Token(Settings):
    """Where the cluster's token lies."""

    file: Place | None = None
    """A file that only its owner can read."""
    env: str | None = None
    """A variable of the environment."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError(
                "is a file or a variable: {file: ~/.genloom/tokens/lab} or {env: LAB_TOKEN}"
            )
        return self


class Machine(Settings):
    """This machine, by `ray start`."""

    kind: Literal["machine"]
    cpus: int | None = Field(default=None, ge=1)
    """CPU slots; as many as it has where None, and 4 at least: two workers, their data, and one to spare."""
    port: int = Field(default=6379, ge=1, le=65535)
    """What workers and drivers connect to. Ray listens on the machine's addresses, and asks for the token."""
    dashboard_port: int = Field(default=8265, ge=1, le=65535)
    """What jobs are sent to, on loopback."""


class RayUp(Settings):
    """Machines that `ray up` starts: by ssh, or in a cloud."""

    kind: Literal["ray"]
    file: Place
    """The cluster's file, in Ray's own format."""
    tls: bool = False
    """Whether the machines that the file names speak TLS with each other: `genloom cluster up` then makes the
    certificates in ~/.genloom/tls/NAME, which the file brings to them."""


class KubeRay(Settings):
    """A RayCluster on Kubernetes, made by the KubeRay operator."""

    kind: Literal["kuberay"]
    manifests: Place
    """A file, or a folder with a kustomization."""
    cluster: str
    """The RayCluster's name."""
    namespace: str = "default"
    context: str | None = None
    """The context of kubectl; the one that is set where None."""


class Profile(Settings):
    """A cluster."""

    launch: Annotated[Machine | RayUp | KubeRay, Field(discriminator="kind")] | None = None
    """How it is started; None where others do that."""
    address: str | None = None
    """Where its jobs are sent to, Ray's dashboard: `https://…`, or `ssh://user@head` for a tunnel to the loopback
    of that machine. Without it, what `launch` started is found by its own tool."""
    trusted_network: bool = False
    """Whether `http://…` on another machine is allowed, where the token travels in clear text."""
    ca: Place | None = None
    """The certificate authority of an `https://` address, and of the endpoint; the system's where None."""
    token: Token | None = None
    """Where its token lies; `~/.genloom/tokens/NAME` where none is given, Ray's own file for this machine."""
    store: str | None = None
    """Where datasets, runs and models live; every node must reach it."""
    tracking: str | None = None
    """The MLflow server, as the nodes reach it; the registry lies in the store where None."""
    endpoint: str | None = None
    """Where models that are served there are asked, as in `https://models.acme.com`."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables that jobs are given, as in `AWS_REGION`. Everyone who may see jobs sees them."""
    secrets: list[str] = Field(default_factory=list)
    """Variables that jobs must find in the environment of the cluster's machines. Nothing sends them there: they
    are a Kubernetes secret, a file that `ray start` was given, or a role that needs no key."""
    workers: dict[str, WorkerType] = Field(default_factory=dict)
    """The kinds of nodes that it has."""
    price_per_hour: Price | None = None
    """What one worker costs: `{amount: 2.5, currency: USD}`."""
    _name: str = PrivateAttr("")

    def model_post_init(self, context: Any) -> None:
        """Keep the name, which is its file's."""
        self._name = (context or {}).get("name", "")

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def token_source(self) -> Token:
        """Where its token lies."""
        if self.token:
            return self.token
        own = Path.home() / ".ray" / "auth_token"
        named = Path.home() / ".genloom" / "tokens" / self.name
        return Token(file=own if isinstance(self.launch, Machine) else named)

    @field_validator("address", "store", "tracking", "endpoint")
    @classmethod
    def _no_password(cls, url: str | None) -> str | None:
        if url and _PASSWORD.search(url):
            raise ValueError(
                "must hold no password, which everyone who may see jobs would see; `token` says where the token "
                "lies, and `secrets` names what else the machines have, as MLFLOW_TRACKING_PASSWORD"
            )
        return url

    @field_validator("address")
    @classmethod
    def _reachable(cls, address: str | None) -> str | None:
        if address is None:
            return None
        try:
            parts = urlsplit(address)
            port = parts.port
        except ValueError as error:  # of Python, which tells neither the value nor a remedy
            raise ValueError(f"is no URL ({error}); give https://host or https://host:8265") from error
        if parts.scheme not in ("http", "https", "ssh") or not parts.hostname:
            raise ValueError("must be https://host, http://127.0.0.1:port or ssh://user@host")
        if port == 0:
            raise ValueError("has the port 0, which nothing listens on; give one of 1 to 65535")
        return address

    @field_validator("environment")
    @classmethod
    def _no_secrets(cls, environment: dict[str, str]) -> dict[str, str]:
        found = [name for name in environment if is_secret(name)]
        if found:
            raise ValueError(
                f"holds {', '.join(found)}, and everyone who may see jobs sees it; name it in `secrets`, "
                "and set it on the cluster's machines"
            )
        if found := [name for name, value in environment.items() if _PASSWORD.search(value)]:
            raise ValueError(
                f"holds a password in {', '.join(found)}, and everyone who may see jobs sees it; name the "
                "variable in `secrets`, and set it on the cluster's machines"
            )
        own = {name: value for name, value in environment.items() if _RAYS_OWN.match(name)}
        if found := [name if is_secret(name) else f"{name}={value}" for name, value in own.items()]:
            raise ValueError(
                f"holds {', '.join(found)}, and whether Ray is closed is not said there; leave it out: a cluster "
                "asks for its token always, and `tls: true` in `launch` encrypts"
            )
        return environment

    @model_validator(mode="after")
    def _closed(self) -> Self:
        parts = urlsplit(self.address or "")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK and not self.trusted_network:
            raise ValueError(
                f"address {self.address} sends the token in clear text; give https://… or ssh://…, or "
                "trusted_network: true where nobody else can listen"
            )
        return self


def chosen() -> Profile | None:
    """The profile that GENLOOM_CLUSTER names; None where it names none."""
    name = os.environ.get(VARIABLE)
    return load(name) if name else None


def load(name: str) -> Profile:
    """A profile, by its name or path.

    Raises:
        UnknownName: There is none of that name.
        RequestError: A path leads nowhere, or to no YAML mapping.
        InvalidConfig: All that is wrong with it.
    """
    path = Path(name) if name.endswith(ENDINGS) or os.sep in name else _named(name)
    values = read_yaml(str(path))
    try:
        context = {"folder": path.parent.absolute(), "name": path.stem}
        return Profile.model_validate(values, context=context)
    except ValidationError as error:
        problems = [_for_all_eyes(each) for each in problems_of(error, Profile)]
        # Not from Pydantic's error, which holds the values.
        raise InvalidConfig(f"the cluster's profile {path}", problems) from None


def _for_all_eyes(problem: Problem) -> Problem:
    """The same without a password or a secret in its value."""
    *within, last = problem.where.split(".")
    if last == "environment" or (within == ["environment"] and is_secret(last)):
        return replace(problem, value="")
    return replace(problem, value=_PASSWORD.sub(r"\1:…@", problem.value))


def available() -> dict[str, Path]:
    """The files of all profiles, by their names; those of the working folder come first, ours last."""
    folders = [Path("clusters"), Path.home() / ".genloom" / "clusters", OURS]
    return {path.stem: path for folder in reversed(folders) for path in sorted(folder.glob("*.yaml"))}


def _named(name: str) -> Path:
    found = available()
    if name not in found:
        raise UnknownName("cluster", name, found, f"make clusters/{name}.yaml, or set {VARIABLE}")
    return found[name]
