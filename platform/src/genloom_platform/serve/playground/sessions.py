"""Who has shown a key: sessions of the page, each of random bytes that only a browser's cookie holds.

They live in this process's memory, as digests: whoever reads that memory cannot use them, and they end
with the process. An endpoint has one gateway process; with several, a visitor would have to sign in at each.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from genloom_platform.serve.keys import Doorkeeper

COOKIE = "genloom_session"
LASTS_S = 12 * 3600
MAX_SESSIONS = 1000
"""Sessions at once; with one more the oldest ends."""


class Door(Protocol):
    """What knows the keys."""

    async def find(self, key: bytes) -> Any | None:
        """Who has this key; None where nobody has it."""
        ...

    def knows(self, who: Any) -> bool:
        """Whether that key counts still: it may have been revoked since."""
        ...

    def asking(self, who: Any) -> AbstractContextManager[None]:
        """One request with that key, from its admission to its end; raises Refusal where it is one too many."""
        ...


class OneKey:
    """The door of an endpoint that has one key for as long as it runs."""

    def __init__(self, doorkeeper: Doorkeeper) -> None:
        self._doorkeeper = doorkeeper

    async def find(self, key: bytes) -> str | None:
        """See `Door`."""
        return "key" if await self._doorkeeper.admits(key) else None

    def knows(self, who: str) -> bool:
        """See `Door`."""
        return who == "key"

    def asking(self, who: str) -> AbstractContextManager[None]:
        """See `Door`."""
        return nullcontext()


@dataclass(frozen=True)
class Session:
    """A visitor who has shown a key."""

    who: Any
    """As the door knows the key; never the key."""
    ends: float
    """By the clock of `Sessions`."""


class Sessions:
    """The sessions of one endpoint."""

    def __init__(self, door: Door, clock: Callable[[], float] = time.monotonic) -> None:
        self._door, self._clock = door, clock
        self._sessions: dict[bytes, Session] = {}

    async def open(self, key: bytes) -> str | None:
        """A session for whoever has this key, as the cookie's value; None where nobody has it."""
        who = await self._door.find(key)
        if who is None:
            return None
        token = secrets.token_urlsafe(32)
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[_digest(token)] = Session(who, self._clock() + LASTS_S)
        return token

    def find(self, token: str) -> Session | None:
        """The session of a cookie, if it has not ended, nor its key."""
        session = self._sessions.get(_digest(token))
        if session and self._clock() < session.ends and self._door.knows(session.who):
            return session
        self.close(token)
        return None

    def close(self, token: str) -> None:
        """End a session, if there is one."""
        self._sessions.pop(_digest(token), None)

    def asking(self, token: str) -> AbstractContextManager[None]:
        """One question to a model within a session.

        Raises:
            Refusal: It is one too many for the session's key.
            PermissionError: The session has ended.
        """
        session = self.find(token)
        if session is None:
            raise PermissionError("your session has ended; reload the page and sign in again")
        return self._door.asking(session.who)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
