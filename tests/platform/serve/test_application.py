"""The same endpoint through Ray's own command."""

import os
import socket
import subprocess
import time

import httpx
import ray
from registering import Versions

from genloom_platform.data.imports import import_dataset
from genloom_platform.models import aliases
from genloom_platform.serve import application, launch, presence, wanted
from genloom_platform.store import Store

CHANGE_S = 120


def served(client):
    try:
        listed = client.get("/v1/models")
    except httpx.ConnectError:
        return "nothing listens yet"
    return [each["version"] for each in listed.json()["data"]] if listed.is_success else listed.text


def test_rays_own_command_serves_a_file_of_ours_and_the_endpoint_follows_an_alias(
    tmp_path, ray_cluster
):
    store = Store((tmp_path / "store").as_uri())
    import_dataset(store, "digits", None, None, {})
    versions = Versions(store)
    versions.make("image-vae")
    versions.make("image-vae")
    aliases.promote(store, "image-vae@1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    values = {
        "models": [{"model": "image-vae@champion", "cpus": 0.1}],
        "port": port,
        "store": store.url,
    }
    file = tmp_path / "endpoint.yaml"
    file.write_text(application.as_ray_serve(wanted.checked(values, "the test"), None))
    address = ray.get_runtime_context().gcs_address
    deployed = subprocess.run(
        ["serve", "run", str(file), "--address", address, "--non-blocking"],
        capture_output=True,
        text=True,
        timeout=CHANGE_S,
        env={**os.environ, "RAY_AUTH_MODE": "token"},
    )
    try:
        assert deployed.returncode == 0, deployed.stderr
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:

            def until(version):
                deadline = time.monotonic() + CHANGE_S
                while served(client) != [version]:
                    assert time.monotonic() < deadline
                    time.sleep(0.5)
                answer = client.post("/v1/generate", json={"prompts": [{"seed": 1}]})
                assert answer.json()["model"] == f"image-vae@{version}"

            until("1")
            aliases.promote(store, "image-vae@2")
            until("2")
        (endpoint,) = presence.running(store)
        assert endpoint.url == f"http://127.0.0.1:{port}"
        assert "image-vae@2" in endpoint.models
    finally:
        launch.stop()
