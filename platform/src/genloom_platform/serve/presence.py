"""Which endpoints serve a store's models: each has a record, renewed while it runs, which lapses by itself.

endpoints/<id>.json     its models, its address, who holds it
"""

import os
import secrets
import socket
import time
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from genloom.data import Facts
from genloom.errors import StoreError
from genloom_platform.store import Store
from genloom_platform.train import lock
from genloom_platform.train.background import repeating


class Endpoint(Facts):
    """An endpoint that serves models of a store."""

    url: str
    models: tuple[str, ...]
    """`name@version` of each."""
    since: str
    """UTC, ISO 8601."""
    holder: lock.Holder
    """The process that answers its requests."""


class Announcement(Facts):
    """What an endpoint tells of itself to whoever works with the store."""

    store: str
    """The store's URL."""
    url: str
    models: tuple[str, ...]


def announce(said: Announcement) -> Any:
    """Renew a record in the store while this process runs, in a thread; returns what holds the thread."""
    store, token = Store(said.store), secrets.token_hex(8)
    since = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())

    def renew() -> None:
        me = lock.Holder(token=token, host=socket.gethostname(), process=os.getpid(), at=time.time())
        record = Endpoint(url=said.url, models=said.models, since=since, holder=me)
        with suppress(
            StoreError
        ):  # an endpoint goes on where its store is away; the next renewal tells again
            store.write(f"endpoints/{token}.json", record.model_dump_json(indent=1).encode())

    renewing = repeating(renew, lock.RENEW_S)
    renewing.__enter__()
    return renewing


def running(store: Store) -> list[Endpoint]:
    """The endpoints that serve this store's models now; records that have lapsed are cleared away.

    One that was ended on another machine counts for a minute more.
    """
    found: list[Endpoint] = []
    for name in store.names("endpoints"):
        try:
            endpoint = Endpoint.model_validate_json(store.read(f"endpoints/{name}"))
        except FileNotFoundError:
            continue  # someone else has just cleared it away
        except ValidationError as error:
            raise StoreError(
                f"the record {store.url}/endpoints/{name} cannot be read; another version of the platform wrote "
                f"it: see whether that endpoint runs, and remove the record where it does not"
            ) from error
        if lock.holds(endpoint.holder):
            found.append(endpoint)
        else:
            store.remove(f"endpoints/{name}")
    return found
