"""Runs on a cluster that has no room for them until Ray's autoscaler brings machines; here they are processes."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from genloom_platform import autoscaling
from genloom_platform.jobs.reach import free_port
from genloom_platform.store import Store
from genloom_platform.train import runs

pytestmark = pytest.mark.chaos
# The machines share an address, so that the autoscaler must tell them by their ids; nothing is set up on them.
PROVIDER = {"type": "fake_multinode", "use_node_id_as_ip": True, "disable_node_updaters": True,
            "disable_launch_config_check": True}  # fmt: skip
MACHINE = {"resources": {"CPU": 3}, "node_config": {}, "min_workers": 0, "max_workers": 2}
NOTHING = ("head_setup_commands", "head_start_ray_commands", "initialization_commands", "rsync_exclude",
           "rsync_filter", "setup_commands", "worker_setup_commands", "worker_start_ray_commands",
           "cluster_synced_files")  # fmt: skip


def config(address):
    """A file of `ray up` whose machines are processes of this one, and whose provider names the head's kind."""
    kind, head = "ray.head.default", {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0}
    return {
        "cluster_name": "here", "max_workers": 4, "head_node_type": kind,
        "provider": PROVIDER | {"gcs_address": address},
        "available_node_types": {kind: head, "machine": MACHINE},
        "upscaling_speed": 1.0, "idle_timeout_minutes": 5, "auth": {}, "docker": {}, "file_mounts": {},
        "file_mounts_sync_continuously": False, **{name: [] for name in NOTHING},
    }  # fmt: skip


@pytest.fixture
def grown(genloom_command):
    """Runs a command on a cluster of one CPU that can grow to seven."""
    from ray.util import get_node_ip_address

    folder = Path(tempfile.mkdtemp(prefix="genloom-autoscaled-"))  # Ray's sockets need a short path
    address = f"{get_node_ip_address()}:{free_port()}"
    (folder / "ray.json").write_text(json.dumps(config(address)))
    environment = {**os.environ, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1",
                   "RAY_AUTH_MODE": "token"}  # fmt: skip
    words = ["ray", "start", "--head", "--block", "--num-cpus=1", "--disable-usage-stats",
             f"--port={address.rpartition(':')[2]}", f"--dashboard-port={free_port()}",
             f"--ray-client-server-port={free_port()}", f"--autoscaling-config={folder}/ray.json",
             f"--temp-dir={folder}/ray"]  # fmt: skip
    with (folder / "log").open("w") as log:
        head = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)
    until = time.monotonic() + 60
    while "Ray runtime started" not in (folder / "log").read_text():
        assert time.monotonic() < until, (folder / "log").read_text()
        time.sleep(0.5)
    yield lambda *words, store: genloom_command(
        *words, store=store, RAY_ADDRESS=address, **{autoscaling.VARIABLE: "CPU=1+2*CPU=3"}
    )
    head.send_signal(signal.SIGTERM)
    head.wait(60)
    subprocess.run(["pkill", "-KILL", "-f", str(folder)], check=False)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("workers", ["2", "[1,2]"], ids=["fixed", "range"])
def test_a_run_waits_for_the_machines_that_it_asks_for(grown, digits_store, tmp_path, workers):
    store = Store((tmp_path / "store").as_uri())
    shutil.copytree(digits_store.url[7:], store.url[7:])
    config = ("steps=4", "global_batch=24", "evaluate=false")
    scale = (f"scale.workers={workers}", "scale.cpus_per_worker=2")  # the machine that is there has one
    words = ("train", "image-vae", *config, *scale, "--data", "digits", "--name", "grown")
    done = grown(*words, store=store.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is registered" in done.stdout
    assert runs.status(store, "grown").state == "finished"
