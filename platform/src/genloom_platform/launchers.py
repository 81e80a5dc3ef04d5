"""Starting and ending clusters, by the tools that do so: Ray's own launcher, and KubeRay through kubectl."""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from genloom.errors import ClusterError, RequestError
from genloom_platform import certificates, cluster, tokens
from genloom_platform.jobs.reach import free_port
from genloom_platform.profiles import KubeRay, Machine, Profile, RayUp

READY_S = 180
"""Until a head on this machine must answer."""
NO_METRICS = {
    "RAY_enable_metrics_collection": "0",
    "DASHBOARD_METRIC_PORT": "-1",
    "AUTOSCALER_METRIC_PORT": "-1",
}
"""Ray tells its metrics to whoever reaches the machine: `ray start` takes no loopback for its node's address."""
POD_S = 900
"""Until the head's pod must be ready: an image of gigabytes may have to be fetched."""
REMEDIES = {
    "kubectl": "kubectl config get-contexts tells what it asks, and the profile's context names another",
    "ray": "its own file names the machines, the user and key of ssh, or the cloud",
}
_LOGGED = re.compile(r"[EWI]\d{4} \d\d:\d\d:\d\d")
"""How a line of kubectl's log begins; what it ends with stands in its error too."""


def up(profile: Profile) -> None:
    """Start a cluster; one that is up stays as it is, or is brought in line with its file.

    Raises:
        RequestError: The profile says nothing of how it is started, or a tool is missing.
        ClusterError: The tool failed.
    """
    match profile.launch:
        case Machine() as launch:
            tokens.make(_token_file(profile))
            _start(profile, launch)
        case RayUp(file=file, tls=tls):
            tokens.make(_token_file(profile))
            if tls:
                certificates.make(certificates.folder(profile.name), certificates.addresses(file))
            _run(["ray", "up", "--yes", str(file)])
        case KubeRay() as launch:
            _apply(profile, launch)
        case None:
            raise _not_ours(profile)


def down(profile: Profile) -> None:
    """End a cluster; errors as for `up`."""
    match profile.launch:
        case Machine():
            _stop(profile)
        case RayUp(file=file):
            _run(["ray", "down", "--yes", str(file)])
        case KubeRay() as launch:
            _run([*_kubectl(launch), "delete", *_manifests(launch), "--ignore-not-found"])
        case None:
            raise _not_ours(profile)


def _not_ours(profile: Profile) -> RequestError:
    return RequestError(
        f"the profile {profile.name} does not say how the cluster is started; whoever runs it does "
        f"that, or give it a launch, as in launch: {{kind: ray, file: lab/ray.yaml}}"
    )


def _start(profile: Profile, launch: Machine) -> None:
    """Ray's head in a process of its own, whose id is kept: `ray stop` would end all that are on this machine."""
    if running := _process(profile):
        if _answers(profile):
            return
        raise ClusterError(
            f"{profile.name} runs already (process {running}), and does not answer; genloom cluster down "
            f"{profile.name} ends it"
        )
    record = _record(profile)
    record.parent.mkdir(parents=True, exist_ok=True)
    # Of its own, or a job might find another cluster of this machine; short, as the paths of sockets must be.
    folder = tempfile.mkdtemp(prefix="genloom-", dir="/tmp")
    # Ray's own numbers for these are the same for every cluster of a machine.
    others = [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
    cpus = launch.cpus or max(os.cpu_count() or 1, cluster.MIN_LOCAL_CPUS)
    own = [*others, f"--temp-dir={folder}", f"--num-cpus={cpus}"]
    argv = [
        _beside_python("ray"), "start", "--head", "--block", f"--port={launch.port}",
        "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--dashboard-port={launch.dashboard_port}",
        "--include-dashboard=true", "--disable-usage-stats", *own,
    ]  # fmt: skip
    with open(record.with_suffix(".log"), "w") as log:
        process = subprocess.Popen(  # noqa: S603
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env=_environment(profile),
        )  # fmt: skip
    record.write_text(json.dumps({"process": process.pid, "folder": folder}))
    until = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < until:
        if _answers(profile):
            told = {"RAY_ADDRESS": f"127.0.0.1:{launch.port}"}
            _run(
                ["genloom", "jobs", "restart"],
                remedy="the cluster is up; what jobs an earlier one lost lie in its store",
                environment=_environment(profile) | told,
            )
            return
        time.sleep(0.5)
    last = " ".join(record.with_suffix(".log").read_text().split()[-40:])
    _end(profile, process.pid)
    raise ClusterError(
        f"{profile.name} did not start: {last}; all of it is in {record.with_suffix('.log')}"
    )


def _environment(profile: Profile) -> dict[str, str]:
    """What a head on this machine has: its commands on the path, its token by the file that it lies in."""
    told = {"GENLOOM_STORE": profile.store, "GENLOOM_TRACKING": profile.tracking}
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("RAY_ADDRESS", "RAY_AUTH_TOKEN")
    }
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(_token_file(profile)),
        # Or the head waits half a minute, before it ends, for its work to move to other machines: there are none.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        **NO_METRICS,
        **profile.environment,
        **{name: value for name, value in told.items() if value},
    }


def _answers(profile: Profile) -> bool:
    from genloom_platform.jobs.client import Cluster

    try:
        with Cluster(profile) as found:
            found.connect()
    except ClusterError:
        return False
    return True


def _stop(profile: Profile) -> None:
    process = _process(profile)
    if process is None:
        raise RequestError(f"{profile.name} is not up: no process of it runs on this machine")
    _end(profile, process)


def _end(profile: Profile, process: int) -> None:
    """End a head: politely, so that it ends what it started; what is left after a while, by force."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)
    until = time.monotonic() + READY_S
    while _process(profile) and time.monotonic() < until:
        time.sleep(0.2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    record = _record(profile)
    shutil.rmtree(json.loads(record.read_text())["folder"], ignore_errors=True)
    record.unlink()


def _process(profile: Profile) -> int | None:
    """The process of a head on this machine, where it runs; ids are used again, so its words are looked at."""
    record = _record(profile)
    if not record.exists() or not isinstance(profile.launch, Machine):
        return None
    process = int(json.loads(record.read_text())["process"])
    argv = ["ps", "-ww", "-o", "stat=,command=", "-p", str(process)]
    words = subprocess.run(argv, capture_output=True, text=True).stdout  # noqa: S603
    ours = f"--dashboard-port={profile.launch.dashboard_port}" in words and "--head" in words
    return process if ours and not words.startswith("Z") else None


def _record(profile: Profile) -> Path:
    return Path.home() / ".genloom" / "run" / f"{profile.name}.json"


def _apply(profile: Profile, launch: KubeRay) -> None:
    """The manifests, and the token that the operator made for the cluster."""
    kubectl = _kubectl(launch)
    _run([*kubectl, "apply", *_manifests(launch)])
    ready = [
        "wait",
        "--for=condition=HeadPodReady",
        f"raycluster/{launch.cluster}",
        f"--timeout={POD_S}s",
    ]
    _run([*kubectl, *ready], remedy=f"{' '.join(kubectl)} describe pods tells what its pods wait for")
    path = _token_file(profile)
    if not path.exists():
        wanted = ["get", "secret", launch.cluster, "-o", "jsonpath={.data.auth_token}"]
        found = _run([*kubectl, *wanted], shown=False)
        tokens.write(path, base64.b64decode(found).decode().strip())


def _kubectl(launch: KubeRay) -> list[str]:
    where = ["--context", launch.context] if launch.context else []
    return ["kubectl", *where, "--namespace", launch.namespace]


def _manifests(launch: KubeRay) -> list[str]:
    return ["-k" if launch.manifests.is_dir() else "-f", str(launch.manifests)]


def _token_file(profile: Profile) -> Path:
    source = profile.token_source
    if source.file is None:
        raise RequestError(
            f"the token of {profile.name} is told to lie in the environment's {source.env}; a cluster "
            f"that is started from here keeps it in a file: token: {{file: …}}"
        )
    return source.file


def _run(
    argv: Sequence[str],
    *,
    shown: bool = True,
    remedy: str = "",
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Run a tool, whose words are shown as they come, or returned; its tracebacks and logs are left out."""
    tool = _beside_python(argv[0])
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


def _beside_python(tool: str) -> str:
    """A tool of this interpreter's environment, or of the path."""
    beside = Path(sys.executable).parent / tool
    return str(beside) if beside.exists() else tool
