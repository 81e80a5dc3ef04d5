"""The door from the contract to the platform that is installed beside it, if one is.

The platform announces itself as the entry points "local" and "cluster" in the group "genloom.platforms"; the
SDK never imports it by name.
"""

from importlib.metadata import entry_points
from os import PathLike
from typing import Any

from genloom.errors import GenloomError, RequestError

GROUP = "genloom.platforms"


def local_platform(store: str | None = None) -> Any:
    """A session of the installed platform on a store.

    Raises:
        GenloomError: None is installed.
    """
    for point in entry_points(group=GROUP, name="local"):
        try:
            return point.load()(store)
        except ModuleNotFoundError as error:
            raise GenloomError(
                f"{error.name} is not installed here, so nothing trains on this machine; connect to a "
                "cluster by its name, or pip install genloom-platform[engines]"
            ) from error
    raise GenloomError(
        "no platform is installed here; pip install genloom-platform[engines], or give the URL of an "
        "endpoint"
    )


def cluster_platform(name: str, plugin: str | PathLike[str] | None = None) -> Any:
    """The platform on a cluster.

    Raises:
        RequestError: No client is installed here, or there is no such cluster.
    """
    for point in entry_points(group=GROUP, name="cluster"):
        return point.load()(name, plugin=plugin)
    raise RequestError(
        f"{name!r} is a cluster's name, and no client of clusters is installed here; pip install "
        "genloom[client], or give a URL: http://… of an endpoint, file:///… or s3://… of a store"
    )
