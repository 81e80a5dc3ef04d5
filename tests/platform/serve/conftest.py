import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from genloom_platform.serve.app import create_app
from genloom_platform.serve.keys import Lock
from genloom_platform.serve.model import Card, Served, served

sys.path.insert(0, str(Path(__file__).parent))

import serve_toys as toys


class LocalBackend:
    """The real models, in this process and without batches over requests."""

    def __init__(self, *models: Served) -> None:
        self._models = {model.loaded.name: model for model in models}

    def models(self) -> Sequence[Card]:
        return [model.card() for model in self._models.values()]

    async def answer(self, model: str, prompts: Sequence[Any]) -> list[Any]:
        asked = self._models[model].read(prompts)
        results = self._models[model].compute(asked)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return [self._models[model].answer(*pair) for pair in zip(asked, results, strict=True)]


@pytest.fixture
def backend_of() -> type[LocalBackend]:
    """Backends of the given models."""
    return LocalBackend


@pytest.fixture
def drawer() -> Served:
    return served(toys.drawer(), 1700000000)


@pytest.fixture
def counter() -> Served:
    return served(toys.counter(), 1700000000)


@pytest.fixture
def brightness() -> Served:
    return served(toys.brightness(), 1700000000)


@pytest.fixture
def client_of() -> Callable[..., TestClient]:
    """Clients of an app that serves the given models on this machine."""

    def make(*models: Served, key: str | None = None, backend: Any = None) -> TestClient:
        app = create_app(backend or LocalBackend(*models), Lock.of(key) if key else None)
        return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)

    return make


@pytest.fixture
def client(client_of, drawer, counter, brightness) -> TestClient:
    return client_of(drawer, counter, brightness)
