"""Reaching a cluster: the URL of its job server, through a tunnel where it listens on its own loopback."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from genloom.errors import ClusterError, RequestError
from genloom_platform.profiles import KubeRay, Machine, Profile, RayUp
from genloom_platform.tools import beside_python

DASHBOARD_PORT = 8265
TUNNEL_S = 30
"""Until a tunnel must stand."""
CONNECT_S = 10
"""Until a machine must answer to ssh."""


@contextmanager
def reach(profile: Profile) -> Generator[str]:
    """The URL of a cluster's job server, for as long as the context lasts.

    Raises:
        RequestError: The profile says nothing of how it is reached, or a tool is missing.
        ClusterError: The tunnel does not stand.
    """
    if profile.address and not profile.address.startswith("ssh://"):
        yield profile.address.rstrip("/")
        return
    if not profile.address and isinstance(profile.launch, Machine):
        yield f"http://127.0.0.1:{profile.launch.dashboard_port}"
        return
    port = free_port()
    tool, *words = tunnel(profile, port)
    argv = [beside_python(tool), *words]
    if not shutil.which(argv[0]):
        raise RequestError(
            f"the cluster {profile.name} is reached by {tool}, which is not installed here; install it, and see "
            "that it is on the path"
        )
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(  # noqa: S603
            argv, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            if not _stands(process, port):
                said.seek(0)
                why = last_words(said.read()) or "it does not answer"
                raise ClusterError(
                    f"no tunnel to the cluster {profile.name}: {why}; tried {' '.join(argv)}"
                )
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def tunnel(profile: Profile, port: int) -> Sequence[str]:
    """The command that forwards a port of this machine's loopback to the cluster's job server.

    Raises:
        RequestError: The profile has neither an address nor a launch.
    """
    if profile.address:
        parts = urlsplit(profile.address)
        to = f"{parts.username}@{parts.hostname}" if parts.username else str(parts.hostname)
        at = ["-p", str(parts.port)] if parts.port else []
        options = ("BatchMode=yes", "ExitOnForwardFailure=yes", f"ConnectTimeout={CONNECT_S}")
        closed = [word for option in options for word in ("-o", option)]
        return [
            "ssh",
            "-N",
            *closed,
            *at,
            "-L",
            f"127.0.0.1:{port}:127.0.0.1:{DASHBOARD_PORT}",
            "--",
            to,
        ]
    match profile.launch:
        case RayUp(file=file):
            return [
                "ray",
                "dashboard",
                "--port",
                str(port),
                "--remote-port",
                str(DASHBOARD_PORT),
                str(file),
            ]
        case KubeRay() as launch:
            where = ["--context", launch.context] if launch.context else []
            service = f"service/{launch.cluster}-head-svc"
            forward = ["port-forward", "--address", "127.0.0.1", service, f"{port}:{DASHBOARD_PORT}"]
            return ["kubectl", *where, "--namespace", launch.namespace, *forward]
        case _:
            raise RequestError(
                f"the profile {profile.name} does not say how the cluster is reached; give it an "
                "address, as in https://ray.acme.com or ssh://user@head"
            )


def last_words(text: str, most: int = 300) -> str:
    """The last whole lines of what a tool said, as one line; of a longer line, its last whole words."""
    kept = ""
    for line in reversed([" ".join(line.split()) for line in text.splitlines()]):
        longer = f"{line} {kept}".strip()
        if len(longer) > most:
            return kept or f"… {longer[-most:].partition(' ')[2]}"
        kept = longer
    return kept


def _stands(process: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + TUNNEL_S
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.1)
    return False


def free_port() -> int:
    """A port of the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
