"""Who asks: the caller that a key belongs to, and whether it may ask now. One for each gateway process.

So that scrypt's 50 ms are not the price of each request, the one right key of each record is remembered
once it was shown, as a digest under a secret of this process; any other is wrong then, at no cost. Until
then keys are tried one after the other, and few may wait: strangers can take neither all processors nor
the time of callers who are known.
"""

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from genloom_platform.serve.errors import SERVER, Refusal
from genloom_platform.serve.keyring import RESERVED, Ring, name_in
from genloom_platform.serve.keys import Lock, is_exposed
from genloom_platform.serve.limits import Denied, Limits, Usage, enter, leave

MAX_WAITING = 16
"""Keys never seen before that wait to be tried."""


@dataclass(frozen=True)
class Caller:
    """Whose key was shown."""

    name: str
    limits: Limits = Limits()  # noqa: RUF009 - it is frozen
    lock: Lock | None = field(default=None, repr=False, compare=False)
    """What the key opened: a name may be given anew, to another key."""


class Callers:
    """The keys that an endpoint knows: the environment's, and the store's."""

    def __init__(
        self,
        lock: Lock | None,
        ring: Ring | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._lock, self._ring = lock, ring
        self._clock, self._now = clock, now
        self._secret = secrets.token_bytes(32)
        self._right: dict[str, tuple[Lock, bytes]] = {}
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._usage: dict[str, Usage] = {}

    async def find(self, key: bytes) -> Caller | None:
        """Whose key it is; None where it is nobody's, or counts no more.

        A key that carries the name of one of the store's keys is compared with that alone, any other with
        the environment's.

        Raises:
            Refusal: Too many keys wait to be tried.
        """
        name = name_in(key)
        record = self._ring.records.get(name) if self._ring and name else None
        if record is None:
            opens = self._lock is not None and await self._opens(RESERVED, self._lock, key)
            return Caller(RESERVED, lock=self._lock) if opens else None
        if record.has_expired(self._now()):
            return None
        return (
            Caller(record.name, record.limits, record.lock)
            if await self._opens(record.name, record.lock, key)
            else None
        )

    def knows(self, caller: Caller) -> bool:
        """Whether a caller's key counts still: it may have been revoked, or have expired."""
        if caller.name == RESERVED:
            return caller.lock == self._lock
        record = self._ring.records.get(caller.name) if self._ring else None
        return record is not None and record.lock == caller.lock and not record.has_expired(self._now())

    @contextmanager
    def asking(self, caller: Caller) -> Generator[None]:
        """One request of a caller, from its admission to its last byte.

        Raises:
            Refusal: It is one too many.
        """
        taken = enter(caller.limits, self._usage.get(caller.name, Usage()), self._clock())
        if isinstance(taken, Denied):
            raise _too_many(caller, taken)
        self._usage[caller.name] = taken
        try:
            yield
        finally:
            self._usage[caller.name] = leave(self._usage[caller.name])

    async def _opens(self, name: str, lock: Lock, key: bytes) -> bool:
        shown = hmac.digest(self._secret, key, "sha256")
        if not self._is_known(name, lock):
            if self._waiting >= MAX_WAITING:
                message = (
                    "too many keys that were never seen before are being tried; ask again in a second"
                )
                raise Refusal(503, "keys_waiting", message, kind=SERVER, headers={"Retry-After": "1"})
            self._waiting += 1
            try:
                async with self._turn:
                    if not self._is_known(name, lock) and await asyncio.to_thread(lock.opens, key):
                        self._right[name] = lock, shown
            finally:
                self._waiting -= 1
        return self._is_known(name, lock) and hmac.compare_digest(shown, self._right[name][1])

    def _is_known(self, name: str, lock: Lock) -> bool:
        """Whether the right key of this very lock was shown: a name may be given anew, to another key."""
        return name in self._right and self._right[name][0] == lock


def _too_many(caller: Caller, denied: Denied) -> Refusal:
    if denied.reason == "rate" and caller.limits.rate:
        rule = f"may send {caller.limits.rate.words}"
    else:
        many = "request" if caller.limits.concurrent == 1 else "requests"
        rule = f"may send {caller.limits.concurrent} {many} at once, and so many are being answered"
    return Refusal(
        429,
        f"{denied.reason}_limit",
        f"the key {caller.name!r} {rule}; ask again in {denied.retry_after_s} s",
        kind="rate_limit_error",
        headers={"Retry-After": str(denied.retry_after_s)},
    )


@dataclass(frozen=True)
class Door:
    """Whom an endpoint lets in."""

    lock: Lock | None = None
    """Of the environment's key."""
    store: str | None = None
    """The URL of the store whose keys count too. Where there is neither, no key is asked for."""
    origins: tuple[str, ...] = ()
    """Pages in browsers that may ask."""


def door(host: str, key: str | None, store: str | None, origins: Sequence[str]) -> Door:
    """Whom to let in; on this machine, and without a key in the environment, no key is asked for.

    Args:
        host: The address that the endpoint listens on.
        key: The environment's.
        store: The URL of the store whose models are served.
        origins: See `Door`.
    """
    closed = key is not None or is_exposed(host)
    return Door(Lock.of(key) if key else None, store if closed else None, tuple(origins))
