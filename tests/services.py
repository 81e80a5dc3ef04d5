"""What a team has beside its cluster, on a host of its own: an S3 server, and MLflow on PostgreSQL, with keys."""

import os
import pwd
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx

S3_PORT, MLFLOW_PORT = 9000, 5000
START_S = 240
TRACKING = """\
[mlflow]
default_permission = READ
admin_username = genloom
database_uri = {database}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


def postgres():
    """The folder of PostgreSQL's programs; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


class Services:
    """The servers of a team, on a host; a context that ends them.

    Attributes:
        environment: What a machine needs to use them, keys included.
        secrets: The names in it that hold keys.
        store: The address of the store.
        objects: The folder in which the store's objects lie, to be read.
        tracking: The address of MLflow, whose user and password `login` holds.
    """

    secrets = (
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD",
    )  # fmt: skip

    def __init__(self, host, folder):
        self._host, self._folder = host, folder
        self.store, self.objects = "s3://bucket/team", folder / "s3" / "bucket" / "team"
        self.objects.mkdir(parents=True)
        self.tracking = f"http://{host.address}:{MLFLOW_PORT}"
        self.login = ("genloom", secrets.token_hex(16))
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://{host.address}:{S3_PORT}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": secrets.token_hex(10),
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
            "MLFLOW_TRACKING_USERNAME": self.login[0],
            "MLFLOW_TRACKING_PASSWORD": self.login[1],
        }
        # PostgreSQL runs as a user of its own, who must be able to reach its folder.
        self._database = Path("/tmp", f"gl-postgres-{secrets.token_hex(4)}")

    def __enter__(self):
        self._start_s3()
        self._start_postgres()
        self._start_mlflow()
        return self

    def __exit__(self, *error):
        self._host.kill_all()
        shutil.rmtree(self._database, ignore_errors=True)

    def _start(self, name, argv, environment, **options):
        with (self._folder / f"{name}.log").open("w") as log:
            return self._host.spawn(
                argv, environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **options
            )

    def _start_s3(self):
        keys = (self.environment[name] for name in self.secrets[:2])
        # In a variable, as a row of CSV: everyone on the machine may read command lines.
        given = {"RCLONE_AUTH_KEY": f'"{",".join(keys)}"', "PATH": os.environ["PATH"]}
        argv = [
            "rclone",
            "serve",
            "s3",
            "--addr",
            f"{self._host.address}:{S3_PORT}",
            self._folder / "s3",
        ]
        self._start("s3", argv, given)

    def _start_postgres(self):
        user, programs = pwd.getpwnam("postgres"), postgres()
        self._database.mkdir(mode=0o700)
        words = self._database / "password"
        self._password = secrets.token_hex(16)
        words.write_text(self._password)
        for path in (self._database, words):
            os.chown(path, user.pw_uid, user.pw_gid)
        argv = [
            programs / "initdb", "--no-sync", "--username=mlflow", f"--pwfile={words}",
            "--auth=scram-sha-256", f"--pgdata={self._database}/data",
        ]  # fmt: skip
        plain = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
        whose = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}
        subprocess.run(argv, check=True, capture_output=True, env=plain, **whose)
        argv = [programs / "postgres", "-D", f"{self._database}/data", "-k", self._database]
        settings = ["listen_addresses=127.0.0.1", "fsync=off"]
        argv += [word for setting in settings for word in ("-c", setting)]
        self._start("postgres", self._as(user, argv), plain)

    @staticmethod
    def _as(user, argv):
        """The command as another user; entering a namespace needs root."""
        ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        return ["setpriv", *ids, *argv]

    def _start_mlflow(self):
        database = f"postgresql://mlflow:{self._password}@127.0.0.1:5432/postgres"
        settings = self._folder / "basic_auth.ini"
        settings.touch(mode=0o600)
        settings.write_text(TRACKING.format(database=database))
        given = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
            **{name: value for name, value in self.environment.items() if name.startswith("AWS_")},
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_ARTIFACTS_DESTINATION": f"{self.store}/mlflow-artifacts",
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_BACKEND_STORE_URI": database,
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.login[1],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
        }
        argv = [
            Path(sys.executable).parent / "mlflow", "server", "--app-name=basic-auth", "--workers=1",
            f"--host={self._host.address}", f"--port={MLFLOW_PORT}",
            f"--allowed-hosts={self._host.address}:{MLFLOW_PORT}",
        ]  # fmt: skip
        self._mlflow = self._start("mlflow", argv, given)

    def wait(self):
        """Until MLflow answers, which takes longest."""
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._mlflow.poll() is None:
            try:
                if httpx.get(f"{self.tracking}/health", trust_env=False, timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.3)
        raise AssertionError((self._folder / "mlflow.log").read_text()[-3000:])

    def versions(self, model, run):
        """The registered versions of a model that a run made."""
        asked = f"model-versions/search?filter=name%3D'{model}'&max_results=1000"
        found = self.mlflow(asked).get("model_versions", [])
        return [each for each in found if {"key": "run", "value": run} in each["tags"]]

    def metric(self, run, name):
        """Every value of a metric that a run recorded, by its step."""
        found = self.mlflow(
            "runs/search", experiment_ids=self._experiments(), filter=f"attributes.run_name = '{run}'"
        )
        (run_id,) = (each["info"]["run_id"] for each in found["runs"])
        asked = f"metrics/get-history?run_id={run_id}&metric_key={name}&max_results=25000"
        values = {}
        for each in self.mlflow(asked)["metrics"]:
            values.setdefault(int(each["step"]), []).append(each["value"])
        return values

    def _experiments(self):
        return [
            each["experiment_id"]
            for each in self.mlflow("experiments/search?max_results=10")["experiments"]
        ]

    def mlflow(self, path, **asked):
        """What MLflow's API answers, with the password."""
        answer = httpx.post if asked else httpx.get
        options = {"json": asked} if asked else {}
        found = answer(
            f"{self.tracking}/api/2.0/mlflow/{path}",
            auth=self.login,
            trust_env=False,
            timeout=30,
            **options,
        )
        assert found.status_code == 200, found.text
        return found.json()
