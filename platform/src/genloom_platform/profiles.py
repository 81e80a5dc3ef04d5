"""Profiles: what a team says of a cluster, in a file by its name.

A profile is `NAME.yaml` in `clusters/` of the working folder or in `~/.genloom/clusters`; GENLOOM_CLUSTER names
it, or gives its path.
"""

import os
from pathlib import Path

from pydantic import Field, ValidationError

from genloom.errors import InvalidConfig, UnknownName
from genloom.problems import problems_of
from genloom_platform.config import read_yaml
from genloom_platform.settings import Settings

VARIABLE = "GENLOOM_CLUSTER"
ENDINGS = (".yaml", ".yml")


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


class Profile(Settings):
    """A cluster."""

    price_per_hour: Price | None = None
    """What one worker costs: `{amount: 2.5, currency: USD}`."""


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
        return Profile.model_validate(values)
    except ValidationError as error:
        raise InvalidConfig(f"the cluster's profile {path}", problems_of(error, Profile)) from error


def _named(name: str) -> Path:
    folders = [Path("clusters"), Path.home() / ".genloom" / "clusters"]
    found = {path.stem: path for folder in reversed(folders) for path in sorted(folder.glob("*.yaml"))}
    if name not in found:
        raise UnknownName("cluster", name, found, f"{VARIABLE} names it; make clusters/{name}.yaml")
    return found[name]
