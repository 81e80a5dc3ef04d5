"""Where the models answer that a job serves: the profile's `endpoint`, as far as the command's options fit it."""

import shlex
from urllib.parse import urlsplit

from genloom.errors import RequestError
from genloom_platform.profiles import LOOPBACK, Profile

PORT = 8000
"""Of `genloom serve` where none is given; what stands before a cluster passes requests on to it."""
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104


def address(profile: Profile, command: str) -> str:
    """The URL of what a command serves on a cluster.

    An endpoint on loopback may have the command's own port. Of one elsewhere the profile knows a single address.

    Raises:
        RequestError: The profile has no endpoint, or another than that of the command's options.
    """
    if profile.endpoint is None:
        raise RequestError(
            f"the profile {profile.name} does not say where its endpoints are reached; add endpoint: https://…"
        )
    parts = urlsplit(profile.endpoint)
    usual = parts.port or (443 if parts.scheme == "https" else 80)
    options = _options(command)
    host, tls = options.get("--host"), "--tls-cert" in options
    given = options.get("--port", "")
    port = int(given) if given.isdecimal() else usual
    if parts.hostname not in LOOPBACK:
        if port not in (usual, PORT):
            raise _elsewhere(profile, f"port {port}", port)
        if tls and parts.scheme == "http":
            raise _elsewhere(profile, "TLS", port)
        return profile.endpoint
    if host and host not in (*LOOPBACK, *EVERYWHERE):
        raise _elsewhere(profile, host, port)
    if tls or (port != usual and "--config" not in options):
        parts = parts._replace(scheme="https" if tls else "http")
    name = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    return parts._replace(netloc=f"{name}:{port}").geturl()


def _elsewhere(profile: Profile, what: str, port: int) -> RequestError:
    return RequestError(
        f"the job serves at {what}, and the endpoint of the profile {profile.name} is {profile.endpoint}; "
        f"give it the address at which port {port} is reached, or ask that by genloom.connect(URL)"
    )


def _options(command: str) -> dict[str, str]:
    """The options of a command, in both ways of writing; of one without a value, the word that follows."""
    words = shlex.split(command)
    found: dict[str, str] = {}
    for word, after in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            found[name] = value if equals else after
    return found
