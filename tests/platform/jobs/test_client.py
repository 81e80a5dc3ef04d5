"""The client: what it asks for, what it refuses before it sends anything; it needs nothing that trains."""

import json
import subprocess
import sys
import tomllib

import pytest
from answering import answering
from packaging.requirements import Requirement
from typer.testing import CliRunner

from genloom.errors import ClusterError, InvalidConfig, RequestError, UnknownName
from genloom_platform import profiles
from genloom_platform.cli.app import app
from genloom_platform.jobs import origin, submit, travel
from genloom_platform.jobs.client import Cluster, in_a_line, session
from genloom_platform.jobs.job import Job

ENGINES = [
    "torch",
    "deepspeed",
    "mlflow",
    "pyarrow",
    "boto3",
    "optuna",
    "sklearn",
    "scipy",
    "matplotlib",
    "peft",
]
WITHOUT = f"""
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {ENGINES}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import importlib.util
known = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {ENGINES} else known(name, package)
"""


@pytest.fixture
def server():
    """A server that answers every path with what it is told to."""
    answers = {}

    with answering(lambda path: answers.get(path, b"?")) as url:
        yield url, answers


def run_without_engines(code, home):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code], capture_output=True, text=True, cwd=home, timeout=120
    )


def test_the_client_needs_nothing_that_trains(home, lab):
    code = """
import genloom
from genloom_platform import launchers, profiles
from genloom_platform.doctor import laptop
from genloom_platform.jobs import client, job, nodes, origin, reach, remote, submit, travel, wheel
sys.argv = ["genloom", "submit", "--help"]
from genloom_platform.cli.app import main
main()
"""
    done = run_without_engines(code, home)
    assert done.returncode == 0, done.stderr
    assert "Run a command on a cluster" in done.stdout


def test_a_command_that_trains_says_that_this_is_a_client_alone(home):
    code = "sys.argv = ['genloom', 'train', 'image-vae']\nfrom genloom_platform.cli.app import main\nmain()"
    done = run_without_engines(code, home)
    assert done.returncode == 2, done.stderr
    assert "genloom submit --cluster NAME -- train image-vae" in done.stderr


def test_what_the_client_installs_has_no_engine_in_it(root):
    platform = tomllib.loads((root / "platform" / "pyproject.toml").read_text())["project"]
    sdk = tomllib.loads((root / "sdk" / "pyproject.toml").read_text())["project"]
    light = {Requirement(each).name for each in platform["dependencies"]}
    assert light == {"anyio", "genloom", "packaging", "pyyaml", "ray", "rich", "typer"}
    assert [Requirement(each).name for each in sdk["optional-dependencies"]["client"]] == [
        "genloom-platform"
    ]


def test_a_cluster_that_is_not_there_is_told_at_once(lab):
    with pytest.raises(
        ClusterError, match=r"lab does not answer at http://127.0.0.1:1: .*refused; is it up\?"
    ):
        Cluster(lab).connect()


@pytest.fixture
def proxy(home, monkeypatch):
    """A proxy that the environment names for everything, and a .netrc with a password for everyone."""
    passed = []
    with answering(lambda path: passed.append(path) or b"{}") as url:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, url)
            monkeypatch.setenv(name.upper(), url)
        for name in ("no_proxy", "NO_PROXY", "NETRC"):
            monkeypatch.delenv(name, raising=False)
        (home / ".netrc").write_text("default login me password hidden\n")
        (home / ".netrc").chmod(0o600)
        yield passed


def test_the_token_goes_to_the_cluster_and_to_no_proxy(lab, proxy, monkeypatch):
    import requests
    from requests.adapters import HTTPAdapter

    seen, send = [], HTTPAdapter.send

    def sent(adapter, request, **words):
        seen.append(request.headers.get("Authorization"))
        return send(adapter, request, **words)

    monkeypatch.setattr(HTTPAdapter, "send", sent)
    with answering(lambda path: json.dumps({"ray_version": "2.31.0"}).encode()) as url:
        with pytest.raises(RequestError, match=r"runs Ray 2.31.0"):
            Cluster(lab.model_copy(update={"address": url})).connect()
        assert session(lab, url).get(url).ok
        assert requests.get(url).text == "{}"  # what others send does go there
    assert len(proxy) == 1
    assert seen[:2] == [f"Bearer {'t' * 32}", None]
    assert not session(lab, "http://10.0.0.1:8265").proxies
    assert not session(lab, "https://localhost:8265").proxies
    assert session(lab, "https://ray.acme.com").proxies


def test_a_page_of_html_is_told_in_a_line(home, lab, server):
    url, answers = server
    page = "<html><head><title>Welcome</title><style>a {b: c}</style></head>\n<body><h1>nginx</h1>\n</body>"
    assert in_a_line(page) == "Welcome nginx"
    assert in_a_line("x " * 200) == f"{'x ' * 100}…"
    answers["/api/version"] = page.encode()
    with pytest.raises(ClusterError, match="answers no JSON, so it is no job server"):
        Cluster(lab.model_copy(update={"address": url})).connect()


def test_what_answers_and_is_no_cluster_is_told(home, lab, server):
    url, answers = server
    there = lab.model_copy(update={"address": url})
    with pytest.raises(ClusterError, match="no job server of Ray"):
        Cluster(there).connect()
    answers["/api/version"] = json.dumps({"ray_version": "2.31.0"}).encode()
    with pytest.raises(RequestError, match=r"runs Ray 2.31.0 and this machine has 2.*pip install"):
        Cluster(there).connect()


def test_a_cluster_that_is_not_named_right_is_told_by_every_command(lab):
    for words in (
        ["submit", "--cluster", "lap", "--", "train", "image-vae"],
        ["jobs", "logs", "vae-1", "--cluster", "lap"],
        ["cluster", "status", "lap"],
        ["doctor", "--cluster", "lap"],
    ):
        done = CliRunner().invoke(app, words)
        assert isinstance(done.exception, UnknownName), words
        assert "there is no cluster 'lap'; did you mean 'lab'?" in str(done.exception)


def test_the_log_of_a_job_whose_machine_is_gone_is_told_with_where_its_run_is(home, lab, server):
    import ray

    url, answers = server
    answers["/api/version"] = json.dumps({"ray_version": ray.__version__}).encode()
    lost = {
        "type": "SUBMISSION", "submission_id": "vae-1", "status": "FAILED", "entrypoint": "genloom train",
        "message": "Job supervisor actor died", "error_type": "JOB_SUPERVISOR_ACTOR_DIED",
    }  # fmt: skip
    answers["/api/jobs/"] = json.dumps([lost]).encode()
    answers["/api/jobs/vae-1/logs"] = json.dumps({"logs": ""}).encode()
    cluster = Cluster(lab.model_copy(update={"address": url}))
    with pytest.raises(
        RequestError,
        match=r"log of the job vae-1 is gone .*supervisor actor died; .*genloom runs logs RUN",
    ):
        list(Job(cluster, "vae-1").logs())
    with pytest.raises(RequestError, match=r"vae-1 has ended already: it failed .*nothing to stop"):
        Job(cluster, "vae-1").stop()
    with pytest.raises(UnknownName, match="cluster that was started anew has forgotten its jobs"):
        list(Job(cluster, "other").logs())


def test_ray_address_does_not_move_a_cluster(home, lab, server, monkeypatch):
    import ray

    url, answers = server
    answers["/api/version"] = json.dumps({"ray_version": ray.__version__}).encode()
    monkeypatch.setenv("RAY_ADDRESS", "10.9.9.9:6379")
    assert Cluster(lab.model_copy(update={"address": url})).client.get_address() == url


def test_a_plugin_for_another_python_is_refused(home, lab, server, tmp_path):
    import ray

    url, answers = server
    answers["/api/version"] = json.dumps({"ray_version": ray.__version__}).encode()
    told = {"data": {"rayVersion": ray.__version__, "pythonVersion": "3.12.4"}}
    answers["/api/v0/cluster_metadata"] = json.dumps(told).encode()
    cluster = Cluster(lab.model_copy(update={"address": url}))
    named = "acme_dots-0.4.2-1abc-{}.whl"
    for tags, fits in (
        ("py3-none-any", True),
        ("cp312-cp312-linux_x86_64", True),
        ("cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64", True),
        ("cp311-cp311-linux_x86_64", False),
        ("cp312-cp312-macosx_11_0_arm64", False),
    ):
        wheel = travel.Wheel(tmp_path / named.format(tags), "acme-dots", "0.4.2", "0" * 64)
        if fits:
            travel.check_fits(wheel, cluster)
        elif "macosx" in tags:
            with pytest.raises(RequestError, match=r"for macosx_11_0_arm64, .*lab run Linux"):
                travel.check_fits(wheel, cluster)
        else:
            with pytest.raises(
                RequestError, match=r"cp311-cp311.*Python 3.12.4; submit from Python 3.12"
            ):
                travel.check_fits(wheel, cluster)


@pytest.mark.parametrize(("words", "message"), [
    ([], "name the command"),
    (["trian", "x"], "did you mean 'train'"),
    (["rm", "list"], "doctor, .*, serve, sweep, sweeps, train .what can be a job"),
    (["genloom", "train", "x"], "leave that word out"),
    (["train", "x", "key=" + "t" * 32], "holds the cluster's token"),
    (["train", "x", "name=the-store-key"], "holds the value of LAB_STORE"),
    (["train", "x", "--data=s3-secret-0001"], "holds the value of AWS_SECRET_ACCESS_KEY"),
])  # fmt: skip
def test_a_command_that_is_none_or_holds_a_secret_is_refused(lab, monkeypatch, words, message):
    monkeypatch.setenv("LAB_STORE", "the-store-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3-secret-0001")
    with pytest.raises(RequestError, match=message) as refused:
        submit.check(words, lab)
    for secret in ("t" * 32, "the-store-key", "s3-secret-0001"):
        assert secret not in str(refused.value)


def test_dashes_before_the_command_may_be_left_out(home, genloom_command):
    (home / "clusters" / "here.yaml").write_text("launch: {kind: machine}\n")
    for dashes in ([], ["--"]):
        words = ("train", "image-vae", "--data", "digits", "--workers", "2")
        done = genloom_command("submit", "--cluster", "here", *dashes, *words, HOME=str(home))
        assert done.returncode == 2
        assert "here has not been started on this machine" in done.stderr
        assert "genloom cluster up here starts it" in done.stderr


def test_a_job_is_told_names_of_secrets_and_never_their_values(lab, monkeypatch):
    monkeypatch.setenv("LAB_STORE", "the-store-key")
    luggage = travel.Luggage(None, None, "0")
    told = submit.environment(lab.model_copy(update={"store": "s3://acme/team"}), "dots", luggage)
    assert told["GENLOOM_STORE"] == "s3://acme/team"
    assert (told["AWS_REGION"], told[origin.SECRETS], told[origin.JOB]) == ("x", "LAB_STORE", "dots")
    assert "the-store-key" not in json.dumps(told)
    assert origin.PRICE not in told
    priced = lab.model_copy(update={"price_per_hour": profiles.Price(amount=2.5, currency="EUR")})
    assert submit.environment(priced, "dots", luggage)[origin.PRICE] == "2.5 EUR"


def test_a_job_whose_machine_lacks_a_secret_says_which(monkeypatch):
    monkeypatch.setenv(origin.SECRETS, "HOME NOT_THERE")
    with pytest.raises(RequestError, match=r"has no NOT_THERE, which"):
        origin.check_secrets()


def test_the_plugin_that_travelled_is_known_by_its_digest(monkeypatch):
    monkeypatch.setenv(origin.PLUGIN, f"acme-dots 0.4.2 {'a' * 64}")
    assert origin.digest_of("acme_dots") == "a" * 64
    assert origin.digest_of("genloom-image") is None


def test_a_profile_that_would_give_a_secret_away_is_refused(home):
    for text, words in (
        ("address: http://10.0.0.1:8265", "in clear text"),
        ("address: https://me:hidden@ray.acme.com", "must hold no password"),
        ("environment: {AWS_SECRET_ACCESS_KEY: hidden}", "name it in `secrets`"),
        ("token: {file: a, env: B}", "is a file or a variable"),
        ("address: ftp://x", "must be https://host"),
    ):
        (home / "clusters" / "it.yaml").write_text(text)
        with pytest.raises(InvalidConfig, match=words):
            profiles.load("it")
    (home / "clusters" / "it.yaml").write_text("address: http://10.0.0.1:8265\ntrusted_network: true")
    assert profiles.load("it").address == "http://10.0.0.1:8265"
