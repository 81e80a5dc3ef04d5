"""The door from the contract to the platform that is installed beside it, if one is.

The platform announces itself as the entry point "local" in the group "genloom.platforms"; the SDK
never imports it by name.
"""

from importlib.metadata import entry_points
from typing import Any

from genloom.errors import GenloomError

GROUP = "genloom.platforms"


def local_platform(store: str | None = None) -> Any:
    """A session of the installed platform on a store.

    Raises:
        GenloomError: None is installed.
    """
    for point in entry_points(group=GROUP, name="local"):
        return point.load()(store)
    raise GenloomError(
        "no platform is installed here; pip install genloom-platform, or give the URL of an endpoint"
    )
