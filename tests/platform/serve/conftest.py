import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from genloom_platform.serve.app import create_app
from genloom_platform.serve.keys import Lock
from genloom_platform.serve.model import Served, served

sys.path.insert(0, str(Path(__file__).parent))

import serve_toys as toys
from local_endpoint import LocalBackend, serving


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


@pytest.fixture(scope="session")
def all_models() -> list[Served]:
    makers = (
        toys.drawer,
        toys.counter,
        toys.brightness,
        toys.teller,
        toys.speaker,
        toys.enlarger,
        toys.letters,
    )
    return [served(make(), 1700000000) for make in makers]


@pytest.fixture(scope="session")
def url(all_models):
    """A real server in a thread of this process, which serves all toys."""
    yield from serving(create_app(LocalBackend(*all_models)))
