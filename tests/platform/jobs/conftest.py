"""One cluster for all tests of jobs, and a training that was sent there."""

import json
import shutil
from pathlib import Path

import pytest
from laptop import Laptop

from genloom_platform import profiles


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home and a working folder, in which nothing is set."""
    (tmp_path / "clusters").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_ADDRESS", "GENLOOM_CLUSTER", "GENLOOM_STORE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def lab(home, monkeypatch):
    """The profile of a cluster that is nowhere; its token lies in the environment."""
    monkeypatch.setenv("LAB_OPENS", "t" * 32)
    (home / "clusters" / "lab.yaml").write_text(
        "address: http://127.0.0.1:1\ntoken: {env: LAB_OPENS}\nsecrets: [LAB_STORE]\n"
        "environment: {AWS_REGION: x}\n"
    )
    return profiles.load("lab")


@pytest.fixture(scope="package")
def laptop(tmp_path_factory):
    laptop = Laptop(tmp_path_factory.mktemp("laptop"))
    laptop.up()
    yield laptop
    laptop.down()


@pytest.fixture(scope="package")
def trained(laptop, digits_store):
    """A training of the plugin that only the laptop has: what was said, and the run's record."""
    shutil.copytree(digits_store.url[7:], laptop.store[7:], dirs_exist_ok=True)
    (laptop.work / "run.yaml").write_text(
        "generator: {name: acme-dots}\ndata: digits\nsteps: 4\nevaluate: false\nsamples: {every: 0}\n"
    )
    status, output = laptop("submit", "--id", "dots", "--follow", "--", "train", "run.yaml")
    assert status == 0, output
    return output, json.loads(Path(laptop.store[7:], "runs/dots/run.json").read_text())
