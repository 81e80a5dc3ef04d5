"""A team's network: a cluster of three hosts, a laptop, and a host with the S3 server and MLflow.

Hosts are network namespaces. The laptop has a home, an environment with the client alone, a plugin that nobody
else has, and a profile of the cluster.
"""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import jobs_plugin
import light
import netns
from services import Services, postgres

CPUS = (3, 2, 2)
"""Of the cluster's hosts: a worker of two on each, and one for the data."""
ENDPOINT_PORT = 8000
PROFILE = """\
address: http://{head}:{jobs}
trusted_network: true        # the hosts' bridge
store: {store}
tracking: {tracking}
endpoint: http://{head}:{endpoint}
environment: {{AWS_ENDPOINT_URL: "{s3}", AWS_REGION: us-east-1}}
secrets: [{secrets}]
workers:
  cpu: {{cpus: 2, most: 3}}
"""


class Lab:
    """All of it; a context that undoes it.

    Attributes:
        cluster: The three hosts; the first is the head.
        laptop: The laptop.
        services: The S3 server and MLflow.
        token: The file that holds the cluster's token.
    """

    def __init__(self, folder):
        self._hosts = netns.Hosts(5)
        self.cluster, self.token = list(self._hosts)[:3], self._hosts.token
        *_, place, side = self._hosts
        self.services = Services(side, folder)
        self.laptop = Laptop(place, folder / "laptop")

    def __getitem__(self, number):
        return self._hosts[number]

    def __iter__(self):
        return iter(self.cluster)

    @property
    def address(self):
        """Where a driver on a host of the cluster finds it."""
        return self._hosts.address

    def drain(self, host):
        """Tell the cluster that a host is about to go."""
        self._hosts.drain(host)

    def __enter__(self):
        self._hosts.__enter__()
        try:
            self.services.__enter__()
            store, tracking = self.services.store, self.services.tracking
            self._hosts.environment |= self.services.environment
            self._hosts.environment |= {"GENLOOM_STORE": store, "GENLOOM_TRACKING": tracking}
            self.laptop.make(self)
            self.start()
            self.services.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        self.services.__exit__()
        self._hosts.__exit__()

    def start(self):
        """Start Ray on all hosts, the head first."""
        head, *others = self.cluster
        head.start_ray(CPUS[0])
        with ThreadPoolExecutor() as pool:
            list(pool.map(netns.Host.start_ray, others, CPUS[1:]))


class Laptop:
    """A laptop: what runs on it has its environment and nothing of this process's.

    Attributes:
        work: The working folder, that of a plugin.
        programs: The folder of its programs: genloom, ray, python.
    """

    def __init__(self, host, folder):
        self.host, self.home, self.work = host, folder / "home", folder / "work"
        self.programs = folder / "client" / "bin"

    def make(self, lab):
        """Fill its folders."""
        light.make(self.programs.parent)
        jobs_plugin.write(self.work)
        (self.work / "clusters").mkdir()
        made, head = lab.services, lab.cluster[0].address
        (self.work / "clusters" / "lab.yaml").write_text(PROFILE.format(
            head=head, jobs=netns.JOBS, endpoint=ENDPOINT_PORT, store=made.store, tracking=made.tracking,
            s3=made.environment["AWS_ENDPOINT_URL"], secrets=", ".join(made.secrets),
        ))  # fmt: skip
        self.token = self.home / ".genloom" / "tokens" / "lab"
        self.token.parent.mkdir(parents=True)
        self.token.touch(mode=0o600)
        self.token.write_text(lab.token.read_text())
        self.environment = {
            "HOME": str(self.home), "GENLOOM_CLUSTER": "lab", "COLUMNS": "250", "LANG": "C.UTF-8",
            "PATH": f"{self.programs}{os.pathsep}/usr/bin:/bin:/usr/sbin:/sbin",
            # For Ray's own commands.
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_API_SERVER_ADDRESS": f"http://{head}:{netns.JOBS}",
        }  # fmt: skip

    def popen(self, *words):
        """Start a program; its output is one pipe."""
        return self.host.spawn(
            words, self.environment, cwd=self.work,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def __call__(self, *words, given="", timeout_s=240):
        """Run a program to its end, with something to read; returns its exit status and output."""
        process = self.popen(*words)
        try:
            output, _ = process.communicate(given, timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        return process.returncode, output


def unavailable():
    """Why there can be no such network here; nothing where there can."""
    return netns.unavailable() or (
        "" if postgres() else "MLflow's database needs PostgreSQL (apt: postgresql)"
    )
