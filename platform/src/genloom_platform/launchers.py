"""Starting and ending clusters, by the tools that do so: Ray's own launcher, and KubeRay through kubectl."""

import base64
import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from genloom.errors import ClusterError, GenloomError, RequestError
from genloom_platform import certificates, cluster, tokens
from genloom_platform.jobs.reach import free_port
from genloom_platform.profiles import KubeRay, Machine, Profile, RayUp
from genloom_platform.settings import read_yaml
from genloom_platform.tools import beside_python, run

READY_S = 180
"""Until a head on this machine must answer."""
NO_METRICS = {
    "RAY_enable_metrics_collection": "0",
    "DASHBOARD_METRIC_PORT": "-1",
    "AUTOSCALER_METRIC_PORT": "-1",
}
"""Ray tells its metrics to whoever reaches the machine: `ray start` takes no loopback for its node's address."""
ANYWHERE, LOOPBACK = "0.0.0.0", "127.0.0.1"  # noqa: S104
"""Where Ray's ports must be free; nothing of ours listens on the first."""
POD_S = 900
"""Until the head's pod must be ready: an image of gigabytes may have to be fetched."""


def up(profile: Profile) -> None:
    """Start a cluster; one that is up stays as it is, or is brought in line with its file.

    Ray goes on where it runs, and with it the jobs. `down` and `up` start it anew, as new certificates need it.

    Raises:
        RequestError: The profile says nothing of how it is started, its file is missing, or a tool is.
        ClusterError: The tool failed, another cluster has the ports, or one that is up refuses the token.
    """
    _require_file(profile)
    match profile.launch:
        case Machine() as launch:
            tokens.make(_token_file(profile))
            _start(profile, launch)
        case RayUp(file=file, tls=tls):
            machines = certificates.addresses(file) if tls else []
            tokens.make(_token_file(profile))
            if tls:
                certificates.make(certificates.folder(profile.name), machines)
            going_on = ["--no-restart"] if _is_up(profile) else []
            run(["ray", "up", "--yes", *going_on, str(file)])
        case KubeRay() as launch:
            _apply(profile, launch)
        case None:
            raise _not_ours(profile)


def down(profile: Profile) -> None:
    """End a cluster; errors as for `up`."""
    _require_file(profile)
    match profile.launch:
        case Machine():
            _stop(profile)
        case RayUp(file=file):
            run(["ray", "down", "--yes", str(file)])
        case KubeRay() as launch:
            run([*_kubectl(launch), "delete", *_manifests(launch), "--ignore-not-found"])
        case None:
            raise _not_ours(profile)


def active(profile: Profile) -> list[str]:
    """The ids of the jobs that run or wait there; none where the cluster cannot be asked."""
    from genloom_platform.jobs.client import Cluster
    from genloom_platform.jobs.job import list_jobs

    try:
        with Cluster(profile) as found:
            return [state.id for state in list_jobs(found) if not state.over]
    except (GenloomError, RuntimeError):  # the second is Ray's, where its answer is an error
        return []


def _require_file(profile: Profile) -> None:
    """Raise RequestError where what a tool starts the cluster by is not there, which it tells by a traceback."""
    match profile.launch:
        case RayUp(file=file):
            read_yaml(str(file))
        case KubeRay(manifests=manifests) if not manifests.exists():
            raise RequestError(
                f"there is no {manifests}, which the profile {profile.name} names; give launch.manifests a "
                "file, or a folder with a kustomization"
            )
        case _:
            pass


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
    _require_ports(launch)
    record = _record(profile)
    if record.exists():  # of a head that was killed
        shutil.rmtree(json.loads(record.read_text())["folder"], ignore_errors=True)
    record.parent.mkdir(parents=True, exist_ok=True)
    # Of its own, or a job might find another cluster of this machine; short, as the paths of sockets must be.
    folder = tempfile.mkdtemp(prefix="genloom-", dir="/tmp")
    # Ray's own numbers for these are the same for every cluster of a machine.
    others = [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
    cpus = launch.cpus or max(os.cpu_count() or 1, cluster.MIN_LOCAL_CPUS)
    own = [*others, f"--temp-dir={folder}", f"--num-cpus={cpus}"]
    argv = [
        beside_python("ray"), "start", "--head", "--block", f"--port={launch.port}",
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
            run(
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


def _require_ports(launch: Machine) -> None:
    """Raise ClusterError where something has a port of the head; it would be taken for the head, or end it."""
    for key, port, hosts in (
        ("port", launch.port, (ANYWHERE, LOOPBACK)),
        ("dashboard_port", launch.dashboard_port, (LOOPBACK,)),
    ):
        if any(_taken(host, port) for host in hosts):
            raise ClusterError(
                f"the port {port} is taken by another process, as of another Ray cluster; give the profile "
                f"another, as in launch: {{kind: machine, {key}: {free_port()}}}, or end what has it"
            )


def _taken(host: str, port: int) -> bool:
    with socket.socket() as probe:
        # Connections that have ended take no port; what listens does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE  # of others Ray tells itself
    return False


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
        **profile.environment,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(_token_file(profile)),
        # Or the head waits half a minute, before it ends, for its work to move to other machines: there are none.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        **NO_METRICS,
        **{name: value for name, value in told.items() if value},
    }


def _is_up(profile: Profile) -> bool:
    """Whether a cluster answers.

    Raises:
        ClusterError: It does, and refuses the token.
        RequestError: It does, and runs another Ray than this machine.
    """
    from ray.exceptions import AuthenticationError

    from genloom_platform.jobs.client import Cluster

    try:
        with Cluster(profile) as found:
            found.connect()
    except ClusterError as error:
        if isinstance(error.__cause__, AuthenticationError):
            raise
        return False
    return True


def _answers(profile: Profile) -> bool:
    """Whether a cluster answers and takes the token."""
    try:
        return _is_up(profile)
    except ClusterError:
        return False


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
    kept = json.loads(record.read_text())
    process = int(kept["process"])
    argv = ["ps", "-ww", "-o", "stat=,command=", "-p", str(process)]
    words = subprocess.run(argv, capture_output=True, text=True).stdout  # noqa: S603
    ours = f"--temp-dir={kept['folder']}" in words and "--head" in words
    return process if ours and not words.startswith("Z") else None


def _record(profile: Profile) -> Path:
    return Path.home() / ".genloom" / "run" / f"{profile.name}.json"


def _apply(profile: Profile, launch: KubeRay) -> None:
    """The manifests, and the token that the operator made for the cluster."""
    kubectl, path = _kubectl(launch), _token_file(profile)
    run([*kubectl, "apply", *_manifests(launch)])
    ready = [
        "wait",
        "--for=condition=HeadPodReady",
        f"raycluster/{launch.cluster}",
        f"--timeout={POD_S}s",
    ]
    run([*kubectl, *ready], remedy=f"{' '.join(kubectl)} describe pods tells what its pods wait for")
    wanted = ["get", "secret", launch.cluster, "-o", "jsonpath={.data.auth_token}"]
    token = base64.b64decode(run([*kubectl, *wanted], shown=False)).decode().strip()
    if not token:
        raise ClusterError(
            f"the secret {launch.cluster} of Kubernetes holds no auth_token; give the RayCluster authOptions: "
            "{mode: token}, and take KubeRay 1.5.1 or newer"
        )
    tokens.replace(path, token)  # another than before, where the cluster was made anew


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
