"""Named keys: each is one record in the store, and endpoints look there every few seconds.

    keys/<name>.json     a salted digest of the key, its limits, when it ends

A key reads `gl-<name>-<secret>`, so that its record is found without trying all. It is drawn here,
shown once, and kept nowhere: the record holds what `Lock` does. Records never change; to change a key's
limits, revoke it and add it anew.
"""

import logging
import re
import secrets
import threading
import time
from collections.abc import Mapping
from datetime import timedelta

from pydantic import ValidationError

from genloom.data import Facts
from genloom.errors import RequestError, StoreError
from genloom_platform.names import identifier
from genloom_platform.serve import keys
from genloom_platform.serve.keys import Lock
from genloom_platform.serve.limits import Limits
from genloom_platform.store import Store

FOLDER = "keys"
PREFIX = "gl-"
SECRET_BYTES = 24
LOOK_S = 2.0
"""Between two looks at the store: so soon a new key counts, and a revoked one no more."""
RESERVED = "environment"
"""What logs call the caller with the environment's key."""
UNITS = {"h": "hours", "d": "days", "w": "weeks"}

log = logging.getLogger("genloom.serve")


class Record(Facts):
    """A named key, without the key."""

    name: str
    salt: str
    digest: str
    """Of scrypt, in hexadecimal, as the salt is."""
    created: float
    """Unix time in seconds."""
    expires: float | None
    """Unix time in seconds."""
    limits: Limits

    @property
    def lock(self) -> Lock:
        """What the key is compared with."""
        return Lock(bytes.fromhex(self.salt), bytes.fromhex(self.digest))

    def has_expired(self, now: float) -> bool:
        """Whether it counts no more, at a Unix time."""
        return self.expires is not None and now >= self.expires


def add(store: Store, name: str, limits: Limits, lasts_s: float | None = None) -> str:
    """Make a key, and return it: it cannot be read again.

    Args:
        store: Whose endpoints shall know it.
        name: What it is called in lists and logs.
        limits: What its holder may ask for.
        lasts_s: How long it counts, in seconds; None: until it is revoked.

    Raises:
        RequestError: The name is taken, or is none.
    """
    identifier("key", name)
    if name == RESERVED:
        raise RequestError(
            f"{name!r} is what logs call the environment's key; give the key another name"
        )
    if limits.concurrent is not None and limits.concurrent < 1:
        raise RequestError(
            f"concurrent = {limits.concurrent}: it is 1 or more; to shut a key out, revoke it"
        )
    key = f"{PREFIX}{name}-{secrets.token_hex(SECRET_BYTES)}"
    lock, now = Lock.of(key), time.time()
    record = Record(
        name=name,
        salt=lock.salt.hex(),
        digest=lock.digest.hex(),
        created=now,
        expires=None if lasts_s is None else now + lasts_s,
        limits=limits,
    )
    if not store.create(_path(name), record.model_dump_json(indent=1).encode()):
        raise RequestError(
            f"there is a key {name!r} already; give another name, or end that: genloom keys revoke {name}"
        )
    return key


def revoke(store: Store, name: str) -> None:
    """End a key; endpoints know it within seconds.

    Raises:
        RequestError: There is none of this name.
    """
    if not store.exists(_path(identifier("key", name))):
        raise RequestError(f"there is no key {name!r}; genloom keys list shows those there are")
    store.remove(_path(name))


def records(store: Store) -> dict[str, Record]:
    """All keys by name, expired ones too. A record that cannot be read is told in the log, and opens nothing."""
    found: dict[str, Record] = {}
    for file in store.names(FOLDER):
        name = file.removesuffix(".json")
        try:
            record = Record.model_validate_json(store.read(f"{FOLDER}/{file}"))
            _ = record.lock
        except FileNotFoundError:
            continue  # revoked just now
        except ValueError as error:
            what = "another form" if isinstance(error, ValidationError) else "no hexadecimal digest"
            log.error("the key record %s/%s/%s cannot be read: %s", store.url, FOLDER, file, what)
            continue
        if record.name == name:
            found[name] = record
        else:
            log.error("the key record %s/%s/%s is another key's", store.url, FOLDER, file)
    return found


def check_exposure(host: str, key: str | None, store: Store | None) -> None:
    """Raise RequestError where other machines could reach an endpoint that has no key.

    Args:
        host: Where it listens.
        key: The environment's.
        store: The store whose keys it knows.
    """
    if key is None and keys.is_exposed(host):
        keys.check_exposure(host, has_key=bool(store and records(store)))


def name_in(key: bytes) -> str | None:
    """The name that a key carries, where it is made as those of the store are."""
    text = key.decode("ascii", "replace")
    name, dash, _ = text.removeprefix(PREFIX).rpartition("-")
    return name if text.startswith(PREFIX) and dash else None


def duration_s(text: str) -> float:
    """A time in seconds, as in `12h`, `30d`, `8w`.

    Raises:
        RequestError: It is none.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,3})([hdw])", text)
    if not match:
        raise RequestError(
            f"expires = {text!r}: it is a number and h, d or w; write it as in 12h, 30d or 8w"
        )
    return timedelta(**{UNITS[match[2]]: int(match[1])}).total_seconds()


class Ring:
    """The store's keys as one endpoint knows them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._looking = threading.Lock()
        self._away = False
        self.records: Mapping[str, Record] = {}
        """By name; replaced whole, so that any thread may read it."""

    def look(self) -> None:
        """Read the store anew; where it is away, what is known goes on to count."""
        with self._looking:
            try:
                self.records = records(self._store)
                self._away = False
            except StoreError as error:
                if not self._away:
                    log.error("the keys known so far go on to count: %s", error)
                self._away = True


def _path(name: str) -> str:
    return f"{FOLDER}/{name}.json"
