"""Who has shown a key: sessions of the page, each of random bytes that only a browser's cookie holds.

They live in this process's memory, as digests: whoever reads that memory cannot use them, and they end
with the process. An endpoint has one gateway process; with several, a visitor would have to sign in at each.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from genloom_platform.serve.callers import Caller, Callers

COOKIE = "genloom_session"
LASTS_S = 12 * 3600
MAX_SESSIONS = 1000
"""Sessions at once; with one more the oldest ends."""


@dataclass(frozen=True)
class Session:
    """A visitor who has shown a key."""

    who: Caller
    """Whose key it was; never the key."""
    ends: float
    """By the clock of `Sessions`."""


class Sessions:
    """The sessions of one endpoint."""

    def __init__(self, callers: Callers, clock: Callable[[], float] = time.monotonic) -> None:
        self._callers, self._clock = callers, clock
        self._sessions: dict[bytes, Session] = {}

    async def open(self, key: bytes) -> str | None:
        """A session for whoever has this key, as the cookie's value; None where nobody has it."""
        who = await self._callers.find(key)
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
        if session and self._clock() < session.ends and self._callers.knows(session.who):
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
        return self._callers.asking(session.who)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
