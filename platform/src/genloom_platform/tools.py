"""Running the tools that start and end clusters, whose words are shown to a person."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from genloom.errors import ClusterError, RequestError

REMEDIES = {
    "kubectl": "kubectl config get-contexts tells what it asks, and the profile's context names another",
    "ray": "its own file names the machines, the user and key of ssh, or the cloud",
}
_LOGGED = re.compile(r"[EWI]\d{4} \d\d:\d\d:\d\d")
"""How a line of kubectl's log begins; what it ends with stands in its error too."""


def run(
    argv: Sequence[str],
    *,
    shown: bool = True,
    remedy: str = "",
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Run a tool, whose words are shown as they come, or returned; its tracebacks and logs are left out."""
    tool = beside_python(argv[0])
    if not shutil.which(tool):
        raise RequestError(
            f"this needs {argv[0]}, which is not installed here; install it, and see that it is on the path"
        )
    told = None if shown else subprocess.PIPE
    last, environment = "", {**environment, "RAY_USAGE_STATS_ENABLED": "0"}
    with (
        subprocess.Popen(  # noqa: S603
            [tool, *argv[1:]], stdout=told, stderr=subprocess.PIPE, text=True, env=environment
        ) as process
    ):
        assert process.stderr
        for line in _for_a_person(process.stderr):
            last = line.strip() or last
            if shown:
                sys.stderr.write(line)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        why = f": {last[-300:]}" if not shown else ""
        raise ClusterError(
            f"{' '.join(argv)} ended with status {process.returncode}{why}; {remedy or REMEDIES[argv[0]]}"
        )
    return output


def _for_a_person(lines: Iterable[str]) -> Iterator[str]:
    """What a tool says on its error stream, but for the calls of tracebacks and kubectl's log."""
    within = False
    for line in lines:
        within = line.startswith("Traceback (") or (within and line.startswith(" "))
        if not within and not _LOGGED.match(line):
            yield line


def beside_python(tool: str) -> str:
    """A tool of this interpreter's environment, or of the path."""
    beside = Path(sys.executable).parent / tool
    return str(beside) if beside.exists() else tool
