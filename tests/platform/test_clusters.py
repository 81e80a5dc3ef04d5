"""The profiles and cluster files of this repository: each is whole, and Ray checks those of `ray up` itself."""

import json
import re
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from answering import answering
from manifests import check, gibibytes, grows_to, named, pods, render
from typer.testing import CliRunner

from genloom.errors import ClusterError, RequestError
from genloom_platform import autoscaling, certificates, launchers, profiles, tokens
from genloom_platform.cli.app import app
from genloom_platform.jobs.reach import free_port
from genloom_platform.profiles import KubeRay, Machine, RayUp


@pytest.fixture(scope="module")
def loaded(root):
    files = {
        path.stem: path for path in [*(root / "clusters").glob("*.yaml"), *profiles.OURS.glob("*.yaml")]
    }
    return {name: profiles.load(str(path)) for name, path in files.items()}


def test_each_profile_says_how_its_cluster_is_started_and_reached(loaded):
    kinds = {name: type(profile.launch) for name, profile in loaded.items()}
    assert kinds == {"aws": RayUp, "kuberay": KubeRay, "local": Machine, "onprem": RayUp}
    for profile in loaded.values():
        assert profile.workers
        # Nothing goes over a network in clear text: a tunnel, or TLS.
        assert not (profile.address or "").startswith("http://")


@pytest.fixture(params=["onprem", "aws"])
def ray_up(request, loaded):
    """A profile, and its file as Ray completes and checks it."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    profile = loaded[request.param]
    config = prepare_config(yaml.safe_load(profile.launch.file.read_text()))
    validate_config(config)
    return profile, config


def test_rays_own_validation_takes_the_file(ray_up):
    profile, config = ray_up
    assert config["head_node_type"] in config["available_node_types"]
    assert config["provider"]["type"] == {"onprem": "local", "aws": "aws"}[profile.name]


def test_rays_validation_would_refuse_a_key_that_it_does_not_know(loaded):
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load(loaded["aws"].launch.file.read_text()))
    with pytest.raises(jsonschema.ValidationError, match="head_start_command"):
        validate_config({**config, "head_start_command": []})


def test_every_node_is_closed_and_has_the_token_and_the_store(ray_up):
    profile, config = ray_up
    mounts = dict(config["file_mounts"])
    assert profile.token_source.file.name == profile.name
    assert str(mounts.pop("~/.ray/auth_token")).endswith(f".genloom/tokens/{profile.name}")
    assert str(mounts.pop("~/wheels")).endswith(".genloom/wheels")
    made = str(certificates.folder(profile.name))
    assert bool(mounts) == profile.launch.tls
    for place, source in mounts.items():
        assert Path(source).expanduser().parent == Path(made)
        assert place == f"~/.ray/tls/{Path(source).name}"
        assert Path(source).name in (
            "ca.pem",
            "cert.pem",
            "key.pem",
        )  # the authority's key stays at home
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        (start,) = [each for each in commands if "ray start" in each]
        assert "RAY_AUTH_MODE=token" in start
        assert f"GENLOOM_STORE={profile.store}" in start
        assert "dashboard-host=0.0.0.0" not in start
        assert ("RAY_USE_TLS=1" in start) == profile.launch.tls
        assert ("genloom jobs restart" in start) == ("--head" in start)
        assert subprocess.run(["sh", "-n", "-c", start], capture_output=True).returncode == 0


def test_every_node_has_the_python_and_the_packages_that_are_tested(ray_up, root):
    _, config = ray_up
    (python,) = re.findall(
        r"^ARG PYTHON=(\S+)$", (root / "deploy/Dockerfile").read_text(), re.MULTILINE
    )
    made = re.search(r"--python (\S+)|python(\d\S*) -m venv", " ".join(config["setup_commands"]))
    assert made
    assert python.startswith(next(filter(None, made.groups())))
    install = config["setup_commands"][-1]
    assert "--constraint constraints.txt" in install
    ours = ("genloom", "genloom-platform", "genloom-image", "genloom-text")
    wanted = {f"{name.replace('-', '_')}-{version(name)}-py3-none-any.whl" for name in ours}
    # By file: no index could give another package of the same name.
    assert set(re.findall(r"\./([\w.-]+\.whl)", install)) == wanted
    for command in config["setup_commands"]:
        assert subprocess.run(["sh", "-n", "-c", command], capture_output=True).returncode == 0


def test_no_machine_of_a_cloud_has_the_image_that_ray_would_take(loaded):
    from ray.autoscaler._private.aws import config as rays

    config = yaml.safe_load(loaded["aws"].launch.file.read_text())
    before = {
        name: kind["node_config"]["ImageId"] for name, kind in config["available_node_types"].items()
    }
    rays._check_ami(config)
    after = {
        name: kind["node_config"]["ImageId"] for name, kind in config["available_node_types"].items()
    }
    assert after == before
    (image,) = set(after.values())
    assert image.startswith("resolve:ssm:/aws/service/deeplearning/ami/x86_64/")
    assert "ubuntu-24.04" in image


def test_a_profiles_workers_are_those_that_the_autoscaler_can_bring(loaded, ray_up):
    profile, config = ray_up
    if profile.name == "onprem":
        assert len(config["provider"]["worker_ips"]) == profile.workers["gpu"].most
        return
    for name, worker in profile.workers.items():
        kind = config["available_node_types"][name]
        assert (kind["resources"]["CPU"], kind["resources"]["GPU"]) == (worker.cpus, worker.gpus)
        assert kind["max_workers"] == worker.most
        assert ("InstanceMarketOptions" in kind["node_config"]) == worker.spot
    kinds = config["available_node_types"]
    head = kinds[config["head_node_type"]]
    assert head["resources"]["GPU"] == 0
    head["max_workers"] = 1
    told = re.search(rf" {autoscaling.VARIABLE}=(\S+);", config["head_start_ray_commands"][-1])
    machines = [{"GPU": 0, **each} for each in autoscaling.of(told[1])]
    assert machines == [
        each["resources"] for each in kinds.values() for _ in range(each["max_workers"])
    ]


def test_the_raycluster_is_what_kuberay_takes_and_the_profile_names(loaded):
    profile = loaded["kuberay"]
    folder = profile.launch.manifests
    objects = render(folder)
    for thing in objects:
        check(thing)
    cluster = named(objects, "RayCluster")
    assert cluster["metadata"] == {
        "name": profile.launch.cluster,
        "namespace": profile.launch.namespace,
    }
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    head = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    told = {each["name"]: each.get("value") for each in head["env"]}
    assert autoscaling.of(told[autoscaling.VARIABLE]) == grows_to(cluster["spec"])
    (group,) = cluster["spec"]["workerGroupSpecs"]
    assert (group["groupName"], group["maxReplicas"]) == ("gpu", profile.workers["gpu"].most)
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    images = {pod["spec"]["containers"][0]["image"] for _, pod in pods([cluster])}
    assert images == {"ghcr.io/acme/genloom:0.1.0-cpu", "ghcr.io/acme/genloom:0.1.0-cuda"}
    # Every reference to a secret is by name.
    assert not re.search(
        r"(AKIA|aws_secret|password:)", (folder / "cluster.yaml").read_text(), re.IGNORECASE
    )


def test_the_rayclusters_pods_are_admitted_where_pods_are_restricted(loaded):
    cluster = named(render(loaded["kuberay"].launch.manifests), "RayCluster")
    found = [pod["spec"] for _, pod in pods([cluster])]
    contexts = [each["securityContext"] for spec in found for each in spec["containers"]]
    for context in [*contexts, cluster["spec"]["autoscalerOptions"]["securityContext"]]:
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["runAsNonRoot"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_rays_object_store_has_room_in_every_pod_of_the_raycluster(loaded):
    from ray._private.ray_constants import DEFAULT_OBJECT_STORE_MEMORY_PROPORTION

    cluster = named(render(loaded["kuberay"].launch.manifests), "RayCluster")
    for where, pod in pods([cluster]):
        (container,) = pod["spec"]["containers"]
        (volume,) = pod["spec"]["volumes"]
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/dev/shm"}], where
        room = gibibytes(volume["emptyDir"]["sizeLimit"])
        memory = gibibytes(container["resources"]["limits"]["memory"])
        assert DEFAULT_OBJECT_STORE_MEMORY_PROPORTION * memory < room < memory, where


def test_the_rayclusters_pods_are_reached_by_each_other_alone(loaded):
    objects = render(loaded["kuberay"].launch.manifests)
    pods_of = {"podSelector": {"matchLabels": {"ray.io/cluster": loaded["kuberay"].launch.cluster}}}
    policy = named(objects, "NetworkPolicy")["spec"]
    assert policy == {**pods_of, "policyTypes": ["Ingress"], "ingress": [{"from": [pods_of]}]}


def test_a_launcher_that_fails_tells_its_reason_without_a_traceback(root, genloom_command, tmp_path):
    home = {"HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none")}
    for name, reason, remedy in (
        ("onprem", "No such file or directory: '.*/.ssh/id_ed25519'", "the user and key of ssh"),
        ("kuberay", "connection refused", "the profile's context names another"),
    ):
        done = genloom_command("cluster", "up", str(root / "clusters" / f"{name}.yaml"), **home)
        assert done.returncode == 1
        assert re.search(reason, done.stderr)
        assert re.search(rf"error: .* ended with status 1; .*{remedy}", done.stderr)
        assert "Traceback" not in done.stderr
        assert 'File "' not in done.stderr


def test_kubectl_that_is_missing_is_told(root, loaded, monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RequestError, match="needs kubectl, which is not installed here; install it"):
        launchers.up(loaded["kuberay"])


def test_the_machines_of_a_file_are_those_that_its_certificate_names(loaded, tmp_path):
    assert certificates.addresses(loaded["onprem"].launch.file) == ["10.0.0.5", "10.0.0.6", "10.0.0.7"]
    with pytest.raises(RequestError, match="names no machines by head_ip and worker_ips"):
        certificates.addresses(loaded["aws"].launch.file)


def test_up_makes_the_token_and_the_certificates_before_ray_brings_them_along(
    root, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    profile = profiles.load(str(root / "clusters" / "onprem.yaml"))
    (tmp_path / ".genloom" / "wheels").mkdir(parents=True)
    ran = []

    def run(argv):
        assert (tmp_path / ".genloom" / "tokens" / "onprem").stat().st_mode & 0o777 == 0o600
        config = yaml.safe_load(profile.launch.file.read_text())
        assert all(Path(source).expanduser().exists() for source in config["file_mounts"].values())
        ran.append(argv)

    monkeypatch.setattr(launchers, "run", run)
    monkeypatch.setattr(launchers, "_is_up", lambda profile: False)
    launchers.up(profile)
    assert ran == [["ray", "up", "--yes", str(profile.launch.file)]]


def test_up_lets_ray_go_on_where_the_cluster_answers(root, tmp_path, monkeypatch):
    import ray

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ray.yaml").write_text("cluster_name: lab")
    ran, said = [], {"/api/version": json.dumps({"ray_version": ray.__version__}).encode()}
    monkeypatch.setattr(launchers, "run", ran.append)
    with answering(lambda path: said.get(path, b"?")) as url:
        (tmp_path / "lab.yaml").write_text(f"address: {url}\nlaunch: {{kind: ray, file: ray.yaml}}")
        profile = profiles.load(str(tmp_path / "lab.yaml"))
        launchers.up(profile)
    launchers.up(profile)
    assert [argv[2:-1] for argv in ran] == [["--yes", "--no-restart"], ["--yes"]]


@pytest.mark.parametrize(("launch", "words"), [
    ("{kind: ray, file: none.yaml}", "cannot read .*none.yaml: No such file"),
    ("{kind: ray, file: none.yaml, tls: true}", "cannot read .*none.yaml: No such file"),
    ("{kind: kuberay, manifests: none, cluster: a}", "there is no .*none, which the profile lab names; give"),
])  # fmt: skip
def test_a_file_that_is_missing_is_told_before_anything_is_made(tmp_path, monkeypatch, launch, words):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "lab.yaml").write_text(f"launch: {launch}")
    profile = profiles.load(str(tmp_path / "lab.yaml"))
    for start_or_end in (launchers.up, launchers.down):
        with pytest.raises(RequestError, match=words):
            start_or_end(profile)
    assert not (tmp_path / "home").exists()


def test_kuberays_token_is_fetched_whenever_the_cluster_is_brought_up(root, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    profile = profiles.load(str(root / "clusters" / "kuberay.yaml"))
    secrets = iter(("Zmlyc3Q=", "c2Vjb25k", ""))
    monkeypatch.setattr(
        launchers, "run", lambda argv, **words: next(secrets) if "secret" in argv else ""
    )
    for token in ("first", "second"):
        launchers.up(profile)
        assert tokens.read(profile) == token
    with pytest.raises(ClusterError, match="holds no auth_token"):
        launchers.up(profile)
    assert tokens.read(profile) == "second"
    assert [path.name for path in profile.token_source.file.parent.iterdir()] == ["kuberay"]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """The profile of a cluster on this machine, whose ports nothing listens on; it is never started."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(launchers.subprocess, "Popen", lambda *words, **named: pytest.fail("started"))
    ports = f"port: {free_port()}, dashboard_port: {free_port()}"
    (tmp_path / "lab.yaml").write_text(
        f"launch: {{kind: machine, {ports}}}\nenvironment: {{RAY_enable_metrics_collection: '1', A: b}}"
    )
    return profiles.load(str(tmp_path / "lab.yaml"))


@pytest.mark.parametrize("key", ["port", "dashboard_port"])
def test_a_port_that_another_has_is_told_before_a_start(machine, key):
    port = getattr(machine.launch, key)
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ClusterError, match=rf"port {port} is taken .*{key}: \d+}}, or end what has"),
    ):
        launchers.up(machine)


def test_the_folder_of_a_head_that_was_killed_is_removed(machine, tmp_path, monkeypatch):
    (tmp_path / "old" / "session").mkdir(parents=True)
    record = launchers._record(machine)
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"process": 2**22 + 1, "folder": str(tmp_path / "old")}))

    def popen(*words, **named):
        raise InterruptedError

    monkeypatch.setattr(launchers, "_process", lambda profile: None)
    monkeypatch.setattr(launchers.subprocess, "Popen", popen)
    with pytest.raises(InterruptedError):
        launchers.up(machine)
    assert not (tmp_path / "old").exists()


def test_a_profiles_variables_do_not_open_the_head(machine):
    opened = machine.model_copy(update={"environment": {"RAY_AUTH_MODE": "disabled", "A": "b"}})
    made = launchers._environment(opened)
    assert (made["RAY_AUTH_MODE"], made["A"]) == ("token", "b")
    assert launchers._environment(machine)["RAY_enable_metrics_collection"] == "0"


def test_down_says_what_it_ends_and_what_goes_on(machine, monkeypatch):
    path = str(Path.home() / "lab.yaml")
    monkeypatch.setattr(launchers, "down", lambda profile: pytest.fail("ended"))
    done = CliRunner().invoke(app, ["cluster", "down", path], input="n\n")
    assert done.exit_code == 1
    assert "End lab, and every job that runs there?" in done.output  # it cannot be asked
    monkeypatch.setattr(launchers, "active", lambda profile: ["vae-1", "rates"])
    done = CliRunner().invoke(app, ["cluster", "down", path], input="n\n")
    assert "End lab, and the jobs that run there: vae-1, rates?" in done.output
    assert "go on at the next genloom cluster up, and genloom jobs stop ID" in " ".join(
        done.output.split()
    )
