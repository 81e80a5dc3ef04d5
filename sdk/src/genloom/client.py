"""`connect()`: the platform from team code, with the words of the command line.

studio = genloom.connect()                              # the platform on this machine
lab = genloom.connect("lab")                            # the platform on a cluster, by its profile
endpoint = genloom.connect("http://127.0.0.1:8000")     # models that are served somewhere
endpoint = genloom.connect_async("http://127.0.0.1:8000")   # the same, with await
"""

from typing import Any

from genloom.async_endpoint import AsyncEndpoint
from genloom.endpoint import Endpoint, File
from genloom.errors import RequestError
from genloom.platforms import cluster_platform, local_platform


def connect(
    address: str | None = None,
    *,
    key: str | None = None,
    timeout_s: float = 120,
    ca: File = None,
    plugin: File = None,
) -> Any:
    """The platform on this machine or on a cluster, or an endpoint.

    Args:
        address: An endpoint's URL (`http://…`), a store's (`file:///…`, `s3://…`) for the platform
            on this machine, a cluster's name (its profile's), or None for the platform on this machine.
        key: The endpoint's key, where it asks for one.
        timeout_s: How long an answer of an endpoint may take.
        ca: The file of the authority that vouches for the endpoint's certificate; the system's where None.
        plugin: The folder of the team's plugin, which travels to a cluster; the working folder's where None.

    Returns:
        An `Endpoint`, or the local platform: `.train(…)`, `.finetune(…)`, `.sweep(…)`, `.evaluate(…)`,
        `.models`, `.datasets`; on a cluster, `.train(…)`, `.finetune(…)`, `.sweep(…)` and `.serve(…)`, which
        return at once.
    """
    if address and "://" not in address:
        return cluster_platform(address, plugin)
    if plugin is not None:
        raise RequestError(
            f"plugin={plugin!r} travels to a cluster; name one, as in connect('lab', plugin='.')"
        )
    if address and address.startswith(("http://", "https://")):
        return Endpoint(address, key, timeout_s, ca)
    if address and not address.startswith(("file://", "s3://")):
        raise RequestError(
            f"address = {address!r}: it is no address of an endpoint or a store; "
            f"give http://…, https://…, file:///… or s3://…"
        )
    return local_platform(address)


def connect_async(
    url: str, *, key: str | None = None, timeout_s: float = 120, ca: File = None
) -> AsyncEndpoint:
    """An endpoint, for code that awaits. The arguments are those of `connect`.

    Raises:
        RequestError: The address is no endpoint's.
    """
    if not url.startswith(("http://", "https://")):
        raise RequestError(f"url = {url!r}: it is no endpoint's address; give http://… or https://…")
    return AsyncEndpoint(url, key, timeout_s, ca)
