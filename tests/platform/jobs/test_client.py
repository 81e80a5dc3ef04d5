"""The client: what it asks for, what it refuses before it sends anything; it needs nothing that trains."""

import json
import re
import subprocess
import sys
import tomllib

import pytest
from answering import answering
from packaging.requirements import Requirement
from typer.testing import CliRunner

import genloom
from genloom.errors import ClusterError, InvalidConfig, RequestError, UnknownName
from genloom_platform import profiles
from genloom_platform.cli.app import app
from genloom_platform.jobs import origin, remote, served, submit, travel
from genloom_platform.jobs.client import Cluster, in_a_line, session
from genloom_platform.jobs.job import Job
from genloom_platform.jobs.reach import last_words, reach, tunnel

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
def lab(home, monkeypatch):
    """The profile of a cluster that is nowhere; its token lies in the environment."""
    monkeypatch.setenv("LAB_OPENS", "t" * 32)
    (home / "clusters" / "lab.yaml").write_text(
        "address: http://127.0.0.1:1\ntoken: {env: LAB_OPENS}\nsecrets: [LAB_STORE]\n"
        "environment: {AWS_REGION: x}\n"
    )
    return profiles.load("lab")


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


def test_a_cluster_is_reached_by_the_tool_that_started_it(home):
    for text, words in (
        ("address: ssh://me@head:2222", "ssh -N .*-p 2222 -L 127.0.0.1:99:127.0.0.1:8265 -- me@head"),
        ("launch: {kind: ray, file: r.yaml}", "ray dashboard --port 99 --remote-port 8265 .*r.yaml"),
        (
            "launch: {kind: kuberay, manifests: k, cluster: g, namespace: n, context: c}",
            "kubectl --context c --namespace n port-forward .* service/g-head-svc 99:8265",
        ),
    ):
        (home / "clusters" / "it.yaml").write_text(text)
        assert re.fullmatch(words, " ".join(tunnel(profiles.load("it"), 99)))
    (home / "clusters" / "it.yaml").write_text("store: s3://a/b")
    with pytest.raises(RequestError, match="does not say how the cluster is reached"):
        tunnel(profiles.load("it"), 99)


def test_a_tool_beside_this_python_need_not_be_on_the_path(home, tmp_path, monkeypatch):
    (home / "clusters" / "it.yaml").write_text("launch: {kind: ray, file: r.yaml}")
    (home / "clusters" / "far.yaml").write_text("address: ssh://me@head")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ray").write_text("#!/bin/sh\necho first line\necho no such file: $6\nexit 1\n")
    (tmp_path / "bin" / "ray").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    with (
        pytest.raises(ClusterError, match=r"cluster it: first line no such file: .*/r.yaml; tried"),
        reach(profiles.load("it")),
    ):
        pass
    with (
        pytest.raises(RequestError, match="by ssh, which is not installed"),
        reach(profiles.load("far")),
    ):
        pass


def test_of_what_a_tool_said_whole_lines_are_told():
    assert last_words("one\n  two  three\n\n") == "one two three"
    assert last_words("first " * 20 + "\nsecond line\nthird", 30) == "second line third"
    assert last_words("word " * 20, 12) == "… word word"


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


def test_team_code_names_a_cluster_by_its_profile(home, lab, root, monkeypatch):
    # What this tree says of itself, before what is installed says it.
    told = tomllib.loads((root / "platform" / "pyproject.toml").read_text())["project"]
    info = home / "genloom_platform-9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: genloom-platform\nVersion: 9\n")
    lines = [f"{name} = {at}" for name, at in told["entry-points"]["genloom.platforms"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[genloom.platforms]", *lines]))
    monkeypatch.syspath_prepend(home)
    with pytest.raises(UnknownName, match="did you mean 'lab'"):
        genloom.connect("lap")
    with pytest.raises(ClusterError, match="does not answer"):
        genloom.connect("lab").train("image-vae", data="digits", workers=2, schedule__name="cosine")
    with pytest.raises(RequestError, match="travels to a cluster"):
        genloom.connect(plugin=".")


@pytest.fixture
def sent(lab, monkeypatch):
    """The words of every command that team code sends to the cluster, and the files that go along."""
    commands = []

    def keep(cluster, words, *, id, plugin, folder):
        commands.append((words, {path.name: path.read_text() for path in folder.glob("*.yaml")}))
        return Job(cluster, id or "made")

    monkeypatch.setattr(submit, "submit", keep)
    return commands


def test_options_of_team_code_are_written_as_the_command_reads_them(sent):
    remote.Remote("lab").serve(
        "image-vae@2", name="s2", port=8000, compile=True, status=False, cors=["a", "b"], canary=None
    )
    ((words, _),) = sent
    assert words == ["serve", "image-vae@2", "--port=8000", "--compile", "--cors=a", "--cors=b"]


def test_a_sweep_is_a_file_by_its_path_too(sent, home):
    (home / "rates.yaml").write_text("metric: loss\n")
    lab = remote.Remote("lab")
    for source in ("rates.yaml", home / "rates.yaml"):
        assert lab.sweep(source, trials=3).name == "rates"
    assert sent[0] == sent[1]
    assert sent[0][1] == {"rates.yaml": "metric: loss\ntrials: 3\n"}


@pytest.mark.parametrize(("endpoint", "options", "found"), [
    ("http://127.0.0.1:8000", "--port=8000", "http://127.0.0.1:8000"),
    ("http://127.0.0.1:8000", "", "http://127.0.0.1:8000"),
    ("http://127.0.0.1:8000", "--port 8001", "http://127.0.0.1:8001"),
    ("http://[::1]:8000/", "--port=8001 --host 0.0.0.0", "http://[::1]:8001/"),
    ("http://127.0.0.1:8000", "--tls-cert=a.pem --tls-key=b.pem", "https://127.0.0.1:8000"),
    ("https://localhost:8443", "--port 8001", "http://localhost:8001"),
    ("https://localhost:8443", "--port 8001 --config a.yaml", "https://localhost:8001"),
    ("https://models.acme.com", "--port=8000 --tls-cert a.pem", "https://models.acme.com"),
    ("https://models.acme.com", "--port=8001", "serves at port 8001, and the endpoint of the profile lab"),
    ("http://10.0.0.5:8000", "--tls-cert=a.pem", "serves at TLS"),
    ("http://127.0.0.1:8000", "--host=10.0.0.5", "serves at 10.0.0.5"),
    (None, "", "does not say where its endpoints are reached"),
])  # fmt: skip
def test_a_served_model_is_asked_where_its_command_listens(lab, endpoint, options, found):
    profile = lab.model_copy(update={"endpoint": endpoint})
    if found.startswith("http"):
        assert served.address(profile, f"genloom serve a@2 {options}") == found
    else:
        with pytest.raises(RequestError, match=found):
            served.address(profile, f"genloom serve a@2 {options}")
