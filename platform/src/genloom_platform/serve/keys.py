"""Who may ask: the endpoint's key, and the rule that nothing is open but to this machine.

The key comes from the environment, never from a command line (which every user of a machine can
read) and never out of this process: the replicas get a salted scrypt digest of it. A key that a
person made up may be guessed from a plain SHA-256 of it; scrypt makes each guess cost about 50 ms and
16 MiB. So that this is not the price of each request, see `callers.py`; for more keys, `keyring.py`.
"""

import hashlib
import hmac
import ipaddress
import os
import secrets
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from genloom.errors import RequestError

VARIABLE = "GENLOOM_API_KEY"
MIN_CHARS = 16
HINT = f'export {VARIABLE}="$(openssl rand -hex 32)"'


@dataclass(frozen=True)
class Lock:
    """What a key is compared with."""

    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, key: str) -> "Lock":
        """The lock that a key opens."""
        salt = secrets.token_bytes(16)
        return cls(salt, _scrypt(key.encode(), salt))

    def opens(self, key: bytes) -> bool:
        """Whether a key is the right one. Takes about 50 ms, whatever the key."""
        return hmac.compare_digest(_scrypt(key, self.salt), self.digest)


def from_environment() -> str | None:
    """The key that the environment sets, or None where it sets none.

    Raises:
        RequestError: It is too short, or cannot be sent in a header.
    """
    key = os.environ.get(VARIABLE)
    if key is None:
        return None
    if len(key) < MIN_CHARS:
        raise RequestError(
            f"{VARIABLE} has {len(key)} characters: a key has {MIN_CHARS} or more; {HINT}, or unset it"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise RequestError(
            f"{VARIABLE} holds a space or a character beyond ASCII, which no header can carry; {HINT}"
        )
    return key


@contextmanager
def withheld() -> Generator[None]:
    """Keep the key out of the environment meanwhile: processes that are started do not inherit it."""
    key = os.environ.pop(VARIABLE, None)
    try:
        yield
    finally:
        if key is not None:
            os.environ[VARIABLE] = key


def is_exposed(host: str) -> bool:
    """Whether other machines could reach an endpoint there.

    Raises:
        RequestError: The host has no address.
    """
    return not all(map(is_loopback, _addresses(host)))


def check_exposure(host: str, has_key: bool) -> None:
    """Raise RequestError where other machines could reach an endpoint that knows no key."""
    if is_exposed(host) and not has_key:
        raise RequestError(
            f"host = {host}: other machines can reach it, and without a key anyone there could use "
            f"the models; genloom keys add NAME, or {HINT}, or serve on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether a host, as a URL writes it, names this machine for itself alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _addresses(host: str) -> set[str]:
    """The addresses of a host, without the scope that IPv6 may add."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError as error:
        raise RequestError(f"host = {host}: it has no address ({error}); serve on 127.0.0.1") from error
    return {str(entry[4][0]).partition("%")[0] for entry in found}


def _scrypt(key: bytes, salt: bytes) -> bytes:
    return hashlib.scrypt(key, salt=salt, n=2**14, r=8, p=1)
