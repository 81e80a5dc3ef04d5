"""What `kubectl apply -k` sends is what Kubernetes, KubeRay, Ray and the commands take."""

import copy
import os
import re
import shlex
import subprocess
from importlib.metadata import version
from urllib.parse import urlsplit

import pytest
import yaml
from jsonschema import ValidationError
from manifests import OVERLAYS, ROOT, check, clusters, grows_to, named, overlay, pods, render

from genloom_platform import autoscaling, profiles
from genloom_platform.serve.application import as_ray_serve
from genloom_platform.serve.wanted import checked

KEY = "a-key-of-the-endpoint-that-is-long-enough"
KUBERAY = {"RayCluster", "RayJob", "RayService"}


@pytest.fixture
def endpoints(tmp_path):
    """A kustomization that brings a file of `serve deploy`, as the README has it."""
    asked = {"models": ["image-vae@champion"], "host": "0.0.0.0", "store": "s3://acme/genloom"}
    (tmp_path / "serve.yaml").write_text(as_ray_serve(checked(asked, "the test"), KEY))
    places = {"resources": "overlays/cpu", "components": "components/endpoints"}
    deploy = ROOT / "deploy/kubernetes"
    found = {key: [os.path.relpath(deploy / place, tmp_path)] for key, place in places.items()}
    words = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **found}
    words["configMapGenerator"] = [{"name": "endpoints", "files": ["serve.yaml"]}]
    words["generatorOptions"] = {"disableNameSuffixHash": True}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(words))
    return render(tmp_path)


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_head_is_told_what_the_autoscaler_can_bring(name):
    objects = overlay(name)
    (cluster, *_) = clusters(objects)
    told = named(objects, "ConfigMap", "genloom")["data"]["GENLOOM_AUTOSCALES_TO"]
    assert autoscaling.of(told) == grows_to(cluster)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_object_is_what_its_schema_says(name):
    for thing in overlay(name):
        check(thing)


def test_an_overlay_has_the_kinds_that_it_is_made_of():
    kinds = {name: {thing["kind"] for thing in overlay(name)} for name in OVERLAYS}
    common = {"Namespace", "ServiceAccount", "ConfigMap", "Deployment", "StatefulSet", "NetworkPolicy"}
    assert kinds["cpu"] == {*common, "Service", "RayCluster"}
    assert kinds["aws"] == {*common, "Service", "RayCluster", "PodMonitor", "ServiceMonitor"}
    assert kinds["aws-run"] == {*common, "Service", "RayJob", "PodMonitor", "ServiceMonitor"}


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("RayCluster", "spec/headGroupSpecs", {}),
        ("RayCluster", "spec/authOptions/mode", "tokens"),
        ("RayCluster", "spec/autoscalerOptions/idleTimeoutSeconds", "600"),
        ("RayCluster", "spec/headGroupSpec/rayStartParams/num-cpus", 0),
        ("RayCluster", "spec/headGroupSpec/template/spec/container", []),
        ("RayCluster", "spec/workerGroupSpecs/0/maxReplica", 8),
        ("RayCluster", "spec/workerGroupSpecs/0/minReplicas", -1),
        ("RayCluster", "spec/workerGroupSpecs/0/template/spec/containers/0/resource", {}),
        ("RayJob", "spec/entryPoint", "genloom"),
        ("RayJob", "spec/submissionMode", "Job"),
        ("RayJob", "spec/rayClusterSpec/rayversion", "2.60.0"),
        ("RayJob", "spec/submitterPodTemplate/spec/restartPolicies", "Never"),
        ("PodMonitor", "spec/podMetricsEndpoints/0/ports", "metrics"),
        ("ServiceMonitor", "spec/endpoints/0/interval", "often"),
        ("Deployment", "spec/replica", 2),
        ("StatefulSet", "spec/template/spec/containers/0/ports/0/containerPort", "5432"),
        ("NetworkPolicy", "spec/ingresses", []),
        ("Service", "spec/port", 5000),
        ("ConfigMap", "datum", {}),
        ("ServiceAccount", "automount", True),
        ("Namespace", "metadata/label", {}),
    ],
)
def test_a_wrong_field_is_refused(kind, path, value):
    things = overlay("aws-run") if kind == "RayJob" else overlay("aws")
    thing = copy.deepcopy(next(each for each in things if each["kind"] == kind))
    check(thing)
    *way, last = path.split("/")
    at = thing
    for step in way:
        at = at[int(step)] if step.isdigit() else at[step]
    at[last] = value
    with pytest.raises(ValidationError):
        check(thing)


@pytest.mark.parametrize("path", ["upgradeStrategy", "serveConfigV2"])
def test_a_wrong_field_of_endpoints_is_refused(endpoints, path):
    service = named(endpoints, "RayService")
    check(service)
    service["spec"][path] = {"type": "Newcluster"} if path == "upgradeStrategy" else {}
    with pytest.raises(ValidationError):
        check(service)


def test_endpoints_serve_what_the_file_says_by_rays_own_reader(endpoints):
    from ray.serve.schema import ServeDeploySchema

    spec = named(endpoints, "RayService")["spec"]
    found = ServeDeploySchema.model_validate(yaml.safe_load(spec["serveConfigV2"]))
    (application,) = found.applications
    assert application.import_path == "genloom_platform.serve.application:build"
    assert application.args["models"] == [{"model": "image-vae@champion"}]
    assert KEY not in spec["serveConfigV2"]
    # The head listens itself, and callers have to reach it.
    assert found.proxy_location == "Disabled"
    assert spec["excludeHeadPodFromServeSvc"] is False


def test_a_worker_is_ready_without_a_proxy_of_ray_serve(endpoints):
    """KubeRay asks the workers of endpoints for one, where they say nothing of when they are ready."""
    for group in named(endpoints, "RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        assert "local_raylet_healthz" in str(container["readinessProbe"]["exec"])


def head(cluster):
    (container,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    return container


def test_runs_and_endpoints_have_clusters_like_the_standing_one(endpoints):
    service = named(endpoints, "RayService")["spec"]["rayClusterConfig"]
    standing = named(endpoints, "RayCluster")["spec"]
    assert head(standing).pop("lifecycle")
    assert service == standing
    standing, own = next(clusters(overlay("aws"))), next(clusters(overlay("aws-run")))
    assert head(standing).pop("lifecycle")
    standing["workerGroupSpecs"][1] |= {"replicas": 2, "minReplicas": 2}
    assert own == standing


def test_the_standing_cluster_alone_starts_jobs_again_that_its_head_lost(endpoints):
    """All share a token, so another cluster would take them for its own."""
    found = {"RayCluster": set(), "RayJob": set(), "RayService": set()}
    for thing in [*overlay("cpu"), *overlay("aws"), *overlay("aws-run"), *endpoints]:
        for cluster in clusters([thing]):
            found[thing["kind"]].add("genloom jobs restart" in str(cluster))
    assert found == {"RayCluster": {True}, "RayJob": {False}, "RayService": {False}}
    started = head(named(endpoints, "RayCluster")["spec"])["lifecycle"]["postStart"]["exec"]["command"]
    # In the background, for Kubernetes holds a pod to be starting until it has ended.
    assert started[:2] == ["sh", "-c"]
    assert started[2].endswith("&")


@pytest.mark.parametrize("name", OVERLAYS)
def test_rays_version_is_the_pinned_one(name):
    for cluster in clusters(overlay(name)):
        assert cluster["rayVersion"] == version("ray")


def test_rays_autoscaler_reads_the_groups():
    from ray.autoscaler._private.kuberay.autoscaling_config import (
        _derive_autoscaling_config_from_ray_cr,
    )

    found = _derive_autoscaling_config_from_ray_cr(named(overlay("aws"), "RayCluster"))
    types = found["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert types["workers"]["resources"]["CPU"] == 4
    assert types["workers"]["min_workers"] == 2
    assert types["gpu"]["resources"] | {"memory": 0} == {"CPU": 7, "GPU": 1, "memory": 0}
    assert (types["gpu"]["min_workers"], types["gpu"]["max_workers"]) == (0, 8)
    assert found["idle_timeout_minutes"] == 10


@pytest.mark.parametrize("of", ["component", "overlay"])
def test_the_runs_commands_are_commands(of):
    import click
    from typer.main import get_command

    from genloom_platform.cli.app import app

    file = ROOT / "deploy/kubernetes/components/run/rayjob.yaml"
    job = named(overlay("aws-run"), "RayJob") if of == "overlay" else yaml.safe_load(file.read_text())
    entry = job["spec"]["entrypoint"]
    words = shlex.split(entry.replace(";", " ; "))
    commands = [i for i, word in enumerate(words) if word == "genloom"]
    assert len(commands) == 3
    for at in commands:
        end = next(i for i in range(at, len(words)) if words[i] in (";", ">/dev/null"))
        context = click.Context(get_command(app))
        name, command, rest = context.command.resolve_command(context, words[at + 1 : end])
        while isinstance(command, click.Group):
            name, command, rest = command.resolve_command(context, rest)
        command.make_context(name, rest)


@pytest.mark.parametrize("name", ["cpu", "aws"])
def test_an_overlay_has_what_the_readme_tells_to_change(name):
    folder = ROOT / "deploy/kubernetes/overlays" / name
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    (generated,) = said["configMapGenerator"]
    settings = named(overlay(name), "ConfigMap", "genloom")["data"]
    assert settings.items() >= dict(each.split("=", 1) for each in generated["literals"]).items()
    (image,) = said["images"]
    ours = {pod["spec"]["containers"][0]["image"] for _, pod in pods(overlay(name))}
    assert {each.rpartition(":")[0] for each in ours if "postgres" not in each} == {image["newName"]}


def test_the_readmes_profile_reaches_the_cluster(tmp_path):
    page = (ROOT / "deploy/README.md").read_text()
    (text,) = re.findall(r"```yaml\n(# clusters/team.*?)```", page, re.DOTALL)
    (tmp_path / "team.yaml").write_text(text)
    profile = profiles.load(str(tmp_path / "team.yaml"))
    settings = named(overlay("cpu"), "ConfigMap", "genloom")["data"]
    assert (profile.store, profile.tracking) == (
        settings["GENLOOM_STORE"],
        settings["GENLOOM_TRACKING"],
    )
    assert (
        f"kubectl -n genloom port-forward service/genloom-head-svc {urlsplit(profile.address).port}"
        in page
    )
    assert f"secrets/token ~/.genloom/tokens/{profile.token_source.file.name}" in page


def test_the_readmes_commands_are_a_shells():
    page = (ROOT / "deploy/README.md").read_text()
    for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL):
        assert subprocess.run(["sh", "-n", "-c", block], capture_output=True).returncode == 0, block


@pytest.mark.parametrize("name", OVERLAYS)
def test_all_images_have_a_version_and_ray_runs_ours(name):
    for where, pod in pods(overlay(name)):
        for container in pod["spec"]["containers"]:
            image, _, tag = container["image"].rpartition(":")
            assert image, where
            assert tag != "latest", where
            if not where.startswith("StatefulSet"):
                assert image.endswith("genloom"), where
                assert (
                    tag == f"{version('genloom-platform')}-{'cuda' if where.endswith('gpu') else 'cpu'}"
                )
