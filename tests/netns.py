"""Several hosts on this machine: network namespaces on a bridge, each with Ray of its own.

All share this file system but for Ray's own files, so a store can be a folder; everything else goes over the
network.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RAY = str(Path(sys.executable).parent / "ray")
PORT = 6379
JOBS = 8265
HEALTH = {
    # A node whose link is cut is found dead in about ten seconds instead of about forty.
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
}
CLOSED = {
    # Ray's metrics have no credential, so nothing tells them.
    "RAY_enable_metrics_collection": "0",
    "DASHBOARD_METRIC_PORT": "-1",
    "AUTOSCALER_METRIC_PORT": "-1",
}


class Host:
    """A host: a namespace with an address, and a Ray node when it has been started."""

    def __init__(self, name, number, hosts):
        self.name, self.hosts = name, hosts
        self.address = f"{hosts.network}.{10 + number}"
        self.link = f"{name}v"
        # Short: Ray's sockets lie in it, and their paths may have about a hundred characters.
        self.folder = tempfile.mkdtemp(prefix="gh", dir="/tmp")
        self.cpus = 0

    @property
    def environment(self):
        """What a process on this host needs."""
        return {
            **os.environ, **HEALTH, **CLOSED, **self.hosts.environment,
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.hosts.token),
            "GLOO_SOCKET_IFNAME": "e0", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1",
            "RAY_DISABLE_DOCKER_CPU_WARNING": "1", "RAY_TMPDIR": self.folder,
        }  # fmt: skip

    def popen(self, argv, **environment):
        """Start a program on this host; its output is one pipe."""
        return self.spawn(
            argv, self.environment | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def spawn(self, argv, environment, **options):
        """Start a program on this host, with this environment and no other."""
        argv = ["ip", "netns", "exec", self.name, *map(str, argv)]
        return subprocess.Popen(argv, env=environment, text=True, **options)

    def run(self, argv, timeout_s=120, **environment):
        """Run a program on this host to its end; returns its exit status and output."""
        process = self.popen(argv, **environment)
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return process.returncode, output

    def start_ray(self, cpus):
        """Start a Ray node: the first host's is the head, whose job server other hosts reach."""
        self.cpus = cpus
        head = self.hosts[0]
        role = [
            "--head",
            f"--port={PORT}",
            f"--dashboard-host={self.address}",
            f"--dashboard-port={JOBS}",
        ]
        if self is not head:
            role = [f"--address={head.address}:{PORT}"]
        argv = [
            RAY, "start", *role, f"--node-ip-address={self.address}", f"--num-cpus={cpus}",
            "--object-store-memory=150000000", f"--temp-dir={self.folder}", "--disable-usage-stats",
        ]  # fmt: skip
        if self is not head:
            argv.remove(f"--temp-dir={self.folder}")
            # Ray has its files where the head has them; each host has files of its own there.
            argv = [
                "sh",
                "-c",
                'mount --bind "$0" "$1" && shift && exec "$@"',
                self.folder,
                head.folder,
                *argv,
            ]
        status, output = self.run(argv)
        assert status == 0, output

    def processes(self, pattern=""):
        """The processes of this host whose command line holds some words."""
        found = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True)
        wanted = []
        for process in map(int, found.stdout.split()):
            try:
                command = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            wanted += [process] if pattern in command else []
        return wanted

    def kill_all(self):
        """End every process of this host at once."""
        for _ in range(5):
            for process in self.processes():
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.1)

    def cut(self):
        """Take its link away."""
        _ip("link", "set", self.link, "down")

    def restore(self):
        """Give its link back; a node that was declared dead has ended, and is started anew."""
        _ip("link", "set", self.link, "up")
        self.kill_all()
        self.start_ray(self.cpus)


class Hosts:
    """Some hosts; a context that undoes them."""

    def __init__(self, count):
        mark = secrets.token_hex(2)
        self.network = f"10.77.{os.getpid() % 250 + 1}"
        self.bridge = f"gb{mark}"
        self._folder = Path(tempfile.mkdtemp(prefix="gh", dir="/tmp"))
        self.token = self._folder / "token"
        self.token.touch(mode=0o600)
        self.token.write_text(secrets.token_hex(32))
        self.environment = {}
        """What every host's processes have in their environment besides."""
        self._hosts = [Host(f"g{mark}{number}", number, self) for number in range(count)]

    def __getitem__(self, number):
        return self._hosts[number]

    def __iter__(self):
        return iter(self._hosts)

    @property
    def address(self):
        """Where a driver on any of the hosts finds the cluster."""
        return f"{self[0].address}:{PORT}"

    def drain(self, host):
        """Tell the cluster that a host is about to go, as a cloud does with a spot machine."""
        script = (
            "import ray; ray.init(log_to_driver=False); "
            f"print(*(n['NodeID'] for n in ray.nodes() if n['NodeManagerAddress'] == '{host.address}'"
            " and n['Alive']))"
        )
        status, found = self[0].run([sys.executable, "-c", script], RAY_ADDRESS=self.address)
        assert status == 0, found
        status, said = self[0].run([
            RAY, "drain-node", f"--address={self.address}", f"--node-id={found.split()[-1]}",
            "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot", "--deadline-remaining-seconds=600",
        ])  # fmt: skip
        assert status == 0, said

    def __enter__(self):
        try:
            _ip("link", "add", self.bridge, "type", "bridge")
            _ip("addr", "add", f"{self.network}.1/24", "dev", self.bridge)
            _ip("link", "set", self.bridge, "up")
            for host in self:
                _ip("netns", "add", host.name)
                _ip("link", "add", host.link, "type", "veth", "peer", "name", "e0", "netns", host.name)
                _ip("link", "set", host.link, "master", self.bridge, "up")
                inside = ("netns", "exec", host.name, "ip")
                _ip(*inside, "addr", "add", f"{host.address}/24", "dev", "e0")
                _ip(*inside, "link", "set", "e0", "up")
                _ip(*inside, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        for host in self:
            host.kill_all()
            subprocess.run(["ip", "netns", "del", host.name], capture_output=True)
            shutil.rmtree(host.folder, ignore_errors=True)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def unavailable():
    """Why there can be no hosts here; nothing where there can."""
    if os.geteuid():
        return "network namespaces need root"
    if not shutil.which("ip"):
        return "network namespaces need iproute2"
    tried = [
        (["netns", "add", "gtry"], ["netns", "del", "gtry"]),
        (["link", "add", "gtry", "type", "bridge"], ["link", "del", "gtry"]),
        (["link", "add", "gtry", "type", "veth", "peer", "name", "gtry0"], ["link", "del", "gtry"]),
    ]
    for make, undo in tried:
        made = subprocess.run(["ip", *make], capture_output=True, text=True)
        subprocess.run(["ip", *undo], capture_output=True)
        if made.returncode:
            return f"ip {' '.join(make)}: {made.stderr.strip()}"
    return ""


def _ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
