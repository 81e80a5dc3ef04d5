"""Runs HAProxy with the configuration that Ray Serve wrote, closed to all but this machine and this user.

Serve lets HAProxy tell its figures on two ports that every machine may ask, and gives whoever is on this machine
its admin socket; neither can be set. Serve runs whatever RAY_SERVE_HAPROXY_BINARY_PATH names, and that is this
file (`ingress.py`). It imports nothing but the standard library: it runs before each change of the configuration.

Serve also lets each process of a model listen where the endpoint does, and asks for no key there. So it is told
to listen on loopback, and HAProxy alone listens on the endpoint's own address.

    python closing.py HAPROXY HOST -f CONFIGURATION …
"""

import ctypes
import os
import re
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
LOOPBACK = "127.0.0.1"
FRONT = "frontend http_frontend"
"""The section that callers reach."""
HEAD_LIMIT = "    timeout http-request 10s"
"""How long a request's head may take, as at the gateway's own port; Serve gives it for ever."""
SECTION = re.compile(r"(global|defaults|frontend|backend|listen|peers|resolvers|userlist)\b")
BIND = re.compile(r"(\s+bind\s+)(?:\*|\[?[\w.:]+\]?)?:(\d+)(\s.*)?")
SOCKET = re.compile(r"(\s+stats socket\s+\S+\s+mode\s+)\d+(\s.*)?")


class Open(Exception):
    """A line of the configuration would let others in."""


def closed(configuration: str, host: str) -> str:
    """A configuration in which callers reach the endpoint on its host, and all else listens on loopback.

    And one in which a caller's head that never ends does not hold a connection for ever.

    Args:
        configuration: What Serve wrote.
        host: The address of the endpoint.

    Raises:
        Open: A line listens, and in a way that is not known here.
    """
    section, lines = "", list[str]()
    front = f"[{host}]" if ":" in host else host
    for line in configuration.splitlines():
        if SECTION.match(line):
            section = line.strip()
        words = line.split()
        if words[:1] == ["bind"]:
            found = BIND.fullmatch(line)
            if not found:
                raise Open(f"{line.strip()}: it is not known whom this lets in")
            line = f"{found[1]}{front if section == FRONT else LOOPBACK}:{found[2]}{found[3] or ''}"
        if words[:2] == ["stats", "socket"]:
            found = SOCKET.fullmatch(line)
            if not found:
                raise Open(f"{line.strip()}: it is not known whom this lets in")
            line = f"{found[1]}600{found[2] or ''}"
        lines.append(line)
        if line.strip() == "defaults" and HEAD_LIMIT not in configuration:
            lines.append(HEAD_LIMIT)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Close the configuration, and become HAProxy."""
    binary, host, *rest = sys.argv[1:]
    file = Path(rest[rest.index("-f") + 1])
    draft = file.with_name(f"{file.name}.{os.getpid()}.part")
    draft.write_text(closed(file.read_text(), host))
    draft.replace(file)
    if sys.platform == "linux":  # it ends with the process of Serve that keeps it, however that ends
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execv(binary, [binary, *rest])  # noqa: S606 - in the place of this process, whose id Serve knows


if __name__ == "__main__":
    main()
