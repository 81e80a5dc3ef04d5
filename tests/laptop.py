"""A laptop and a cluster that it reaches: a home, a folder with a plugin, a token and a profile of their own."""

import json
import os
import subprocess
import time
from pathlib import Path

import jobs_plugin

from genloom_platform.jobs.reach import free_port

FOREIGN = ("RAY_ADDRESS", "GENLOOM_STORE", "GENLOOM_CLUSTER")
"""What the environment of whoever runs the tests may name, and is not the laptop's."""


class Laptop:
    """A home, a working folder with a plugin and a profile, and commands that run there."""

    def __init__(self, folder: Path, environment: str = "{}") -> None:
        self.work, self.home = jobs_plugin.write(folder / "work"), folder / "home"
        self.home.mkdir()
        self.store = (folder / "store").as_uri()
        self.profile = self.work / "clusters" / "lab.yaml"
        self.profile.parent.mkdir()
        self.ports = free_port(), free_port()
        launch = f"{{kind: machine, cpus: 4, port: {self.ports[0]}, dashboard_port: {self.ports[1]}}}"
        self.profile.write_text(f"launch: {launch}\nstore: {self.store}\nenvironment: {environment}\n")

    def popen(self, *words, program="genloom", **environment):
        """A command as it runs."""
        inherited = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        told = {"HOME": str(self.home), "GENLOOM_CLUSTER": "lab", "COLUMNS": "250", **environment}
        return subprocess.Popen(
            [program, *map(str, words)], cwd=self.work, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**inherited, **told},
        )  # fmt: skip

    def __call__(self, *words, program="genloom", timeout_s=180, **environment):
        """A command's exit status, and all that it printed."""
        process = self.popen(*words, program=program, **environment)
        output, _ = process.communicate(timeout=timeout_s)
        return process.returncode, output

    @property
    def token(self) -> Path:
        """The file of the cluster's token."""
        return self.home / ".ray" / "auth_token"

    @property
    def on_the_head(self) -> dict[str, str]:
        """What someone sets who works on the cluster's head itself."""
        return {
            "RAY_ADDRESS": f"127.0.0.1:{self.ports[0]}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "GENLOOM_STORE": self.store,
        }

    def up(self) -> None:
        """Start the cluster."""
        status, output = self("cluster", "up", "lab")
        assert status == 0, output

    def down(self) -> None:
        """End it; nothing of it is left."""
        record = json.loads((self.home / ".genloom" / "run" / "lab.json").read_text())
        status, output = self("cluster", "down", "lab", "--yes")
        assert status == 0, output
        until = time.monotonic() + 5  # the last of them sees that its parent has gone
        argv = ["pgrep", "-af", record["folder"]]
        while left := subprocess.run(argv, capture_output=True, text=True).stdout:
            assert time.monotonic() < until, left
            time.sleep(0.1)
        assert not Path(record["folder"]).exists()
