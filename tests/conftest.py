"""What all tests share: a store with the digits, one Ray cluster, a real S3 server."""

import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

os.environ.setdefault("DS_ACCELERATOR", "cpu")
# The commands of this environment, whatever path the tests were started with.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
# Ray's workers and other processes of the tests import the example generators too.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH")))
)


@pytest.fixture(scope="session")
def digits_store(tmp_path_factory):
    """A store that holds the digits and a short text; tests add to it and change nothing."""
    from genloom_platform.data.imports import import_dataset
    from genloom_platform.store import Store

    folder = tmp_path_factory.mktemp("store")
    store = Store(folder.as_uri())
    import_dataset(store, "digits", None, None, {})
    text = folder.parent / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog, again and again. " * 60)
    import_dataset(store, "text", str(text), "fox", {"passage": 64})
    return store


@pytest.fixture(scope="session")
def ray_cluster(s3):
    """The session's Ray cluster, closed like any other; its processes know the S3 server from their start."""
    from genloom_platform import cluster

    cluster.connect(4)
    yield
    import ray

    ray.shutdown()


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A real S3 server with one bucket; the AWS environment points to it."""
    root = tmp_path_factory.mktemp("s3")
    (root / "bucket").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    access, secret = secrets.token_hex(10), secrets.token_hex(20)
    command = [
        "rclone",
        "serve",
        "s3",
        "--addr",
        f"127.0.0.1:{port}",
        "--auth-key",
        f"{access},{secret}",
    ]
    server = subprocess.Popen(
        [*command, str(root)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": access,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield "s3://bucket/team"
    server.terminate()
    server.wait()
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture
def genloom_command(tmp_path):
    """Run `genloom …` as a person would, in a store of its own; returns the finished process."""

    def run(*words, store=None, **environment):
        url = store or (tmp_path / "store").as_uri()
        return subprocess.run(
            ["genloom", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "GENLOOM_STORE": url, **environment},
        )

    return run


@pytest.fixture(scope="session")
def root():
    """The repository."""
    return Path(__file__).parent.parent
