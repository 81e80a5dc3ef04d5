"""An endpoint as one Serve application: the gateway, and the keeper, which starts the versions.

`genloom serve` deploys it, and so does Ray's own `serve deploy`, with `build` and the configuration:

    genloom serve --config serve.yaml --as-ray-serve > endpoint.yaml
    serve deploy endpoint.yaml
"""

from typing import Any

import yaml
from ray.serve import Application

from genloom.errors import RequestError
from genloom_platform.serve import keyring, keys, wanted
from genloom_platform.serve.applications import GATEWAY
from genloom_platform.serve.callers import Door
from genloom_platform.serve.gateway import FrontedGateway, Gateway
from genloom_platform.serve.ingress import NO_PROXY
from genloom_platform.serve.keeper import Keeper
from genloom_platform.serve.keys import Lock
from genloom_platform.serve.listener import Address
from genloom_platform.serve.presence import Announcement
from genloom_platform.serve.sources import Registered, Shelf
from genloom_platform.serve.wanted import Wanted
from genloom_platform.store import Store, default_url


def endpoint(asked: Wanted, shelf: Shelf, door: Door, said: Announcement | None) -> Application:
    """The application of an endpoint.

    Args:
        asked: What it serves.
        shelf: Where the models are looked up.
        door: Whom it lets in.
        said: What is told of it in the store; nothing where None is given.
    """
    keeper = Keeper.bind(asked, shelf, said)
    if asked.ingress == "haproxy":
        return FrontedGateway.bind(door, said, keeper)
    return Gateway.bind(Address(asked.host, asked.port, asked.tls), door, said, keeper)


def build(args: dict[str, Any]) -> Application:
    """The application, for `serve deploy`.

    Args:
        args: What is wanted, as `wanted.Wanted`; `lock`, where callers need a key, as `as_ray_serve` makes it.

    Raises:
        InvalidConfig: What is wanted is no valid configuration.
        RequestError: It would be open to other machines.
    """
    values = dict(args)
    given = values.pop("lock", None)
    asked = wanted.checked(values, "the application's args")
    lock = Lock(bytes.fromhex(given["salt"]), bytes.fromhex(given["digest"])) if given else None
    _check_ingress(asked)
    store = asked.store or default_url()
    if not lock:
        keyring.check_exposure(asked.host, None, Store(store))
    closed = lock is not None or keys.is_exposed(asked.host)
    door = Door(lock, store if closed else None, asked.cors)
    said = Announcement(store=store, url=url(asked))
    return endpoint(asked, Registered(store), door, said)


def as_ray_serve(asked: Wanted, key: str | None) -> str:
    """The same as a file that `serve deploy` takes. The key is not in it, but a digest of it.

    Raises:
        RequestError: It would be open to other machines.
    """
    _check_ingress(asked)
    keyring.check_exposure(asked.host, key, Store(asked.store or default_url()))
    args: dict[str, Any] = asked.model_dump(mode="json", exclude_defaults=True)
    args |= {"host": asked.host, "port": asked.port, "store": asked.store or default_url()}
    if key:
        lock = Lock.of(key)
        args["lock"] = {"salt": lock.salt.hex(), "digest": lock.digest.hex()}
    return yaml.safe_dump(
        {
            "proxy_location": NO_PROXY,
            "applications": [
                {
                    "name": GATEWAY,
                    "route_prefix": None,
                    "import_path": f"{__name__}:build",
                    "args": args,
                }
            ],
        },
        sort_keys=False,
    )


def url(asked: Wanted) -> str:
    """Where this machine reaches an endpoint."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(asked.host, asked.host)  # noqa: S104
    scheme = "https" if asked.tls else "http"
    return f"{scheme}://[{here}]:{asked.port}" if ":" in here else f"{scheme}://{here}:{asked.port}"


def _check_ingress(asked: Wanted) -> None:
    if asked.ingress != "gateway":
        raise RequestError(
            f"ingress = {asked.ingress}: it is set where a cluster starts, and not by a file for serve deploy; "
            f"leave it out, or use genloom serve"
        )
