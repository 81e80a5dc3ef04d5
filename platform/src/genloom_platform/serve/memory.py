"""What the keeper must not forget when it is killed: kept by the cluster, as long as it serves this endpoint."""

import secrets
import time
from typing import Any

import ray
from pydantic import Field
from ray.experimental.internal_kv import (
    _internal_kv_get,  # pyright: ignore[reportPrivateUsage]
    _internal_kv_put,  # pyright: ignore[reportPrivateUsage]
)
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

from genloom_platform.serve.model import Card
from genloom_platform.serve.traffic import Table
from genloom_platform.serve.wanted import Pool, Served
from genloom_platform.settings import Settings

MEMORY, STATE = "genloom-keeper", "genloom-endpoint"
NEWS = 50
"""What happened before is forgotten."""


class Memory(Settings):
    """What happened, beyond what the registry and Serve know."""

    table: Table = Table()
    switched_at: float = 0
    """When the table became what it is, in Unix time."""
    taken_back: dict[str, str] = Field(default_factory=dict)
    """Trials that have failed, and why."""
    served: dict[str, Served] = Field(default_factory=dict)
    """How each version was started."""
    pools: dict[str, Pool] = Field(default_factory=dict)
    """How each pool was started."""
    cards: dict[str, Card] = Field(default_factory=dict)
    """By version: one that was scaled to zero cannot be asked for it."""
    news: tuple[tuple[int, str], ...] = ()
    """What happened, numbered."""
    token: str = Field(default_factory=lambda: secrets.token_hex(8))
    """Names the endpoint's record in its store."""
    since: float = Field(default_factory=time.time)

    def with_news(self, text: str) -> "Memory":
        """The memory with one thing more that happened."""
        number = self.news[-1][0] + 1 if self.news else 1
        return self.changed(news=(*self.news, (number, text))[-NEWS:])

    def changed(self, **values: Any) -> "Memory":
        """The memory with other values."""
        return self.model_copy(update=values)


class State(Settings):
    """How the endpoint is, for people: told by the keeper at every turn."""

    ready: bool
    """Whether all that is wanted answers."""
    faults: tuple[str, ...]
    """Which versions cannot be served, and why."""
    slow: tuple[str, ...]
    """Which take long to start."""
    routes: tuple[str, ...]
    news: tuple[tuple[int, str], ...]
    at: float = Field(default_factory=time.time)
    """When it was so, in Unix time."""


def tell(state: State) -> None:
    """Let whoever looks know."""
    _internal_kv_put(_key(STATE), state.model_dump_json().encode())


def look() -> State | None:
    """What the keeper told last; None before its first turn."""
    told = _internal_kv_get(_key(STATE))
    return State.model_validate_json(told) if told else None


def recall() -> Memory:
    """What was kept of this endpoint; nothing where it begins."""
    kept = _internal_kv_get(_key(MEMORY))
    return Memory.model_validate_json(kept) if kept else Memory()


def keep(memory: Memory) -> None:
    """Keep it in the cluster."""
    _internal_kv_put(_key(MEMORY), memory.model_dump_json().encode())


def _key(prefix: str) -> bytes:
    """Of this very endpoint: the next one of the cluster has another controller, and begins anew."""
    controller = ray.get_actor(SERVE_CONTROLLER_NAME, SERVE_NAMESPACE)
    return f"{prefix}-{controller._actor_id.hex()}".encode()  # pyright: ignore[reportPrivateUsage]
