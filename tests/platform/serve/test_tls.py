"""An endpoint that speaks TLS: which files it takes, and that its callers know it."""

import asyncio
import os
import socket
import ssl
import subprocess

import certificates
import httpx
import pytest
import ray
import serve_toys as toys
import yaml
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from local_endpoint import LocalBackend, serving

import genloom
from genloom.errors import EndpointError, InvalidConfig, RequestError
from genloom_platform.serve import application, keys, launch, tls, wanted
from genloom_platform.serve.app import create_app
from genloom_platform.serve.model import served
from genloom_platform.serve.sources import Given, Source
from genloom_platform.serve.tls import Tls

KEY = "a-key-of-this-test-alone-4711"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The files of an authority, a certificate and its key."""
    return certificates.make(tmp_path_factory.mktemp("tls"), ["127.0.0.1"])


def test_what_cannot_be_shown_is_refused_before_anything_starts(tmp_path, made):
    _, cert, key = made
    tls.check(Tls(cert=cert, key=key))
    _, other_cert, other_key = certificates.make(tmp_path / "other", ["127.0.0.1"])
    _, old, old_key = certificates.make(tmp_path / "old", ["127.0.0.1"], days=(-9, -2))
    _, early, early_key = certificates.make(tmp_path / "early", ["127.0.0.1"], days=(2, 9))
    opened, locked = tmp_path / "opened.pem", tmp_path / "locked.pem"
    opened.write_bytes(key.read_bytes())
    opened.chmod(0o644)
    locked.write_bytes(certificates.pem(load_pem_private_key(key.read_bytes(), None), b"a passphrase"))
    locked.chmod(0o600)
    for shown, its, words in (
        (tmp_path / "nowhere.pem", key, "nowhere.pem: cannot be read"),
        (cert, other_key, "is not the key of"),
        (key, cert, "no certificate and key as PEM"),
        (old, old_key, r"has expired on \d{4}"),
        (early, early_key, "counts only from"),
        (cert, opened, "others can read it .*chmod 600"),
        (cert, locked, "asks for a passphrase"),
    ):
        with pytest.raises(RequestError, match=words):
            tls.check(Tls(cert=shown, key=its))
    tls.check(Tls(cert=other_cert, key=other_key))


def test_a_certificate_needs_its_key():
    with pytest.raises(InvalidConfig, match=r"tls.key: is required and missing"):
        wanted.checked({"models": ["drawer"], "tls": {"cert": "a.pem"}}, "the command line")


def test_rays_own_file_names_the_certificate(made, tmp_path):
    _, cert, key = made
    values = {
        "models": ["drawer@1"],
        "store": tmp_path.as_uri(),
        "tls": {"cert": str(cert), "key": str(key)},
    }
    told = yaml.safe_load(application.as_ray_serve(wanted.checked(values, "it"), None))
    assert told["applications"][0]["args"]["tls"] == {"cert": str(cert), "key": str(key)}
    assert application.url(wanted.checked(values, "it")) == "https://127.0.0.1:8000"


@pytest.fixture(scope="module")
def local(made):
    """An endpoint in this process that shows the certificate; its URL."""
    _, cert, key = made
    app = create_app(LocalBackend(served(toys.drawer(), 1700000000)))
    yield from serving(app, ssl_certfile=str(cert), ssl_keyfile=str(key))


def test_callers_know_an_endpoint_by_its_authority(local, made, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    authority, *_ = made
    with genloom.connect(local, ca=authority) as endpoint:
        assert list(endpoint.models) == ["drawer"]
    with pytest.raises(EndpointError, match=r"not trusted here.*ca='acme-ca.pem'"):
        list(genloom.connect(local).models)

    async def names():
        async with genloom.connect_async(local, ca=authority) as endpoint:
            return await endpoint.models.names()

    assert asyncio.run(names()) == ["drawer"]


def test_the_command_line_takes_an_authority_from_the_environment(local, made, tmp_path):
    authority, *_ = made
    argv = [
        "genloom",
        "generate",
        "drawer",
        "--endpoint",
        local,
        "--prompt",
        "label=1",
        "--out",
        tmp_path,
    ]
    inherited = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    without = subprocess.run(argv, capture_output=True, text=True, env=inherited)
    assert (without.returncode, "not trusted here" in without.stderr) == (1, True), without.stderr
    done = subprocess.run(
        argv, capture_output=True, text=True, env={**inherited, "SSL_CERT_FILE": str(authority)}
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def url(made):
    """An endpoint on Ray Serve that shows the certificate."""
    ray.cloudpickle.register_pickle_by_value(toys)
    alone = not ray.is_initialized()
    _, cert, key = made
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shown = {"cert": str(cert), "key": str(key)}
    asked = wanted.checked({"models": ["drawer@1"], "port": port, "tls": shown}, "the endpoint")
    shelf = Given({"drawer@1": Source("drawer@1", toys.drawer, 1700000000)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(keys.VARIABLE, KEY)
        yield launch.start_shelf(asked, shelf)
    launch.stop()
    if alone:
        ray.shutdown()


def test_ray_serve_speaks_tls_and_nothing_else(url, made):
    authority, *_ = made
    assert url.startswith("https://127.0.0.1:")
    with genloom.connect(url, key=KEY, ca=authority) as endpoint:
        (sample,) = endpoint.models["drawer"].generate(label=1)
    assert isinstance(sample, genloom.Image)
    context = ssl.create_default_context(cafile=authority)
    asked = httpx.get(f"{url}/v1/models", verify=context, trust_env=False)
    assert asked.status_code == 401
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{url.replace('https', 'http')}/healthz", trust_env=False)
