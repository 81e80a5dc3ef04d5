"""Which endpoints serve a store's models: each has a record, renewed while it runs, which lapses by itself.

endpoints/<id>.json     its models, its address, who holds it
"""

import os
import secrets
import socket
import threading
import time
from contextlib import suppress

from pydantic import ValidationError

from genloom.data import Facts
from genloom.errors import StoreError
from genloom_platform.serve.standing import Standing, uncounted
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
    routes: tuple[str, ...] = ()
    """Which version answers for which model, and what is on trial, in words."""
    versions: tuple[Standing, ...] = ()
    """Each version and how it stands; what is counted of it may be some seconds old."""
    news: tuple[str, ...] = ()
    """What changed last, in words."""
    holder: lock.Holder
    """The process that keeps it as it is wanted."""


class Announcement(Facts):
    """What an endpoint tells of itself to whoever works with the store."""

    store: str
    """The store's URL."""
    url: str
    models: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    versions: tuple[Standing, ...] = ()
    news: tuple[str, ...] = ()

    @property
    def uncounted(self) -> "Announcement":
        """The same without what changes with each request."""
        versions = tuple(map(uncounted, self.versions))
        return self.model_copy(update={"routes": (), "versions": versions})


class Presence:
    """An endpoint's record, renewed in a thread while this process runs."""

    def __init__(self, said: Announcement, token: str, since: float) -> None:
        self._store, self._token = Store(said.store), token
        self._since = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(since))
        self._said, self._turn = said, threading.Lock()
        self._renewing = repeating(self._renew, lock.RENEW_S)
        self._renewing.__enter__()

    def tell(self, said: Announcement) -> None:
        """Write what is so now, where it is not so already; new counts go with the next renewal."""
        before, self._said = self._said, said
        if said.uncounted != before.uncounted:
            self._renew()

    def end(self) -> None:
        """Renew it no more."""
        self._renewing.__exit__(None, None, None)

    def _renew(self) -> None:
        me = lock.Holder(
            token=self._token, host=socket.gethostname(), process=os.getpid(), at=time.time()
        )
        said = self._said.model_dump(exclude={"store"})
        record = Endpoint(**said, since=self._since, holder=me)
        # An endpoint goes on where its store is away; the next renewal tells again.
        with self._turn, suppress(StoreError):
            self._store.write(
                f"endpoints/{self._token}.json", record.model_dump_json(indent=1).encode()
            )


def announce(said: Announcement, token: str | None = None, since: float | None = None) -> Presence:
    """Tell of an endpoint in its store.

    Args:
        said: What to tell.
        token: Names the record; one of its own where None is given.
        since: When it was started, in Unix time; now where None is given.
    """
    return Presence(said, token or secrets.token_hex(8), since or time.time())


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
