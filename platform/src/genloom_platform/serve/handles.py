"""Serve's handles to versions: each has an application of its own, or is one of a pool's (`pool.py`)."""

from collections.abc import Callable

from ray import serve
from ray.serve.handle import DeploymentHandle

PREFIX = "genloom."
"""Before a version in the name of its Serve application."""
POOL_PREFIX = "genloom-pool."
"""Before a pool's name in that of its Serve application."""


class Handles:
    """Serve's handles to versions, by `name@version`.

    Args:
        pool_of: The pool that a version is in; None where it has processes of its own.
    """

    def __init__(self, pool_of: Callable[[str], str | None]) -> None:
        self._pool_of = pool_of
        self._made: dict[tuple[str, str], DeploymentHandle] = {}

    def __getitem__(self, version: str) -> DeploymentHandle:
        pool = self._pool_of(version)
        if pool is None:
            return self._handle(version, PREFIX + version)
        return self._handle(pool, POOL_PREFIX + pool).options(multiplexed_model_id=version)

    def _handle(self, deployment: str, application: str) -> DeploymentHandle:
        key = deployment, application
        if key not in self._made:
            self._made[key] = serve.get_deployment_handle(*key, _check_exists=False)
        return self._made[key]
