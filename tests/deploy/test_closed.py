"""What runs in Kubernetes can do, reach and show no more than it has to."""

import re

import pytest
from manifests import OVERLAYS, clusters, gibibytes, named, overlay, pods
from ray._private.ray_constants import DEFAULT_OBJECT_STORE_MEMORY_PROPORTION

SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|ACCESS_KEY|API_KEY|_STORE_URI")
"""Names of variables whose values no manifest may hold."""


def containers(name):
    for where, pod in pods(overlay(name)):
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            yield f"{where}: {container['name']}", pod["spec"], container


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_container_is_root_or_can_become_it_or_write_to_its_image(name):
    contexts = [(where, pod, each["securityContext"]) for where, pod, each in containers(name)]
    for cluster in clusters(overlay(name)):
        head = cluster["headGroupSpec"]["template"]["spec"]
        contexts.append(("autoscaler", head, cluster["autoscalerOptions"]["securityContext"]))
    for where, pod, context in contexts:
        assert context["runAsNonRoot"], where
        assert context["readOnlyRootFilesystem"], where
        assert context["allowPrivilegeEscalation"] is False, where
        assert context["capabilities"] == {"drop": ["ALL"]}, where
        assert pod["securityContext"]["runAsUser"] > 0, where
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), where
    enforced = named(overlay(name), "Namespace")["metadata"]["labels"]
    assert enforced["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_container_says_what_it_needs_and_at_most(name):
    found = [(where, each["resources"]) for where, _, each in containers(name)]
    found += [("autoscaler", c["autoscalerOptions"]["resources"]) for c in clusters(overlay(name))]
    for where, resources in found:
        for bound in ("requests", "limits"):
            assert {"cpu", "memory"} <= resources[bound].keys(), where
        # What is used beyond a request is taken back by ending the container; a run would lose its worker.
        if "Ray" in where and "submitter" not in where:
            assert resources["requests"]["memory"] == resources["limits"]["memory"], where


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_kuberay_does_not_probe_is_probed(name):
    for where, _, container in containers(name):
        if where.startswith("Ray"):
            continue  # KubeRay's probes differ for clusters and endpoints; one of ours would keep them out
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), where


@pytest.mark.parametrize("name", OVERLAYS)
def test_ray_has_shared_memory_and_places_to_write(name):
    for where, pod in pods(overlay(name)):
        if not where.startswith("Ray") or "submitter" in where:
            continue
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        (container,) = pod["spec"]["containers"]
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert {"/dev/shm", "/tmp", "/home/genloom"} == mounts.keys(), where
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory", where
        # Ray would put an object store that has no room there on a disk, and be slow.
        room = gibibytes(mounts["/dev/shm"]["emptyDir"]["sizeLimit"])
        memory = gibibytes(container["resources"]["limits"]["memory"])
        assert DEFAULT_OBJECT_STORE_MEMORY_PROPORTION * memory < room < memory, where
        assert all("sizeLimit" in volume["emptyDir"] for volume in volumes.values()), where


@pytest.mark.parametrize("name", OVERLAYS)
def test_secrets_are_referred_to_and_never_there(name):
    objects = overlay(name)
    assert "Secret" not in {thing["kind"] for thing in objects}
    for where, _, container in containers(name):
        for variable in container.get("env", []):
            if SECRET.search(variable["name"]) and not variable["name"].endswith("_FILE"):
                assert "value" not in variable, f"{where}: {variable['name']}"
        words = " ".join([*container.get("command", []), *container.get("args", [])])
        assert not SECRET.search(words.upper().replace("-", "_")), where
    for thing in objects:
        if thing["kind"] == "ConfigMap":
            assert not [key for key in thing["data"] if SECRET.search(key)], thing["metadata"]["name"]


def secrets_in(value):
    """(Secret, key) of all that are referred to; None where all keys are."""
    if isinstance(value, list):
        for each in value:
            yield from secrets_in(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key == "secretKeyRef":
                yield each["name"], each["key"]
            elif key == "secretRef":
                yield each["name"], None
            elif key == "secretName":
                yield from ((each, item["key"]) for item in value.get("items", [{"key": None}]))
            else:
                yield from secrets_in(each)


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_readme_makes_all_secrets_that_are_referred_to(name, root):
    page = (root / "deploy/README.md").read_text().replace("\\\n", " ")
    made = {
        (secret, key)
        for secret, words in re.findall(r"secret generic ([\w-]+)((?:\s+--from-file=\S+)+)", page)
        for key in [None, *re.findall(r"--from-file=([\w.-]+)", words)]
    }
    found = set(secrets_in(overlay(name)))
    assert {secret for secret, _ in found} >= {"genloom-ray", "genloom-tracking", "genloom-postgres"}
    assert found <= made
    # What KubeRay and PostgreSQL read of theirs.
    assert {("genloom-ray", "auth_token"), ("genloom-postgres", "password")} <= made


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_ray_cluster_asks_for_the_token(name):
    found = list(clusters(overlay(name)))
    assert found
    assert {str(c["authOptions"]) for c in found} == {
        str({"mode": "token", "secretName": "genloom-ray"})
    }


@pytest.mark.parametrize("name", OVERLAYS)
def test_only_the_head_has_an_account_that_may_do_something(name):
    for where, pod in pods(overlay(name)):
        if where.endswith("head"):
            assert pod["spec"]["serviceAccountName"] == "genloom-head"
        else:
            assert pod["spec"]["automountServiceAccountToken"] is False, where


def allowed(objects, pod, direction):
    """The rules of all policies that choose a pod with these labels."""
    key = {"Ingress": "ingress", "Egress": "egress"}[direction]
    for thing in objects:
        if thing["kind"] != "NetworkPolicy" or direction not in thing["spec"]["policyTypes"]:
            continue
        wanted = thing["spec"]["podSelector"].get("matchLabels", {})
        if wanted.items() <= pod.items():
            yield from thing["spec"].get(key, [])


@pytest.mark.parametrize("name", OVERLAYS)
def test_nothing_is_open_to_all_or_to_every_namespace(name):
    objects = overlay(name)
    closed = named(objects, "NetworkPolicy", "closed")["spec"]
    assert closed["podSelector"] == {}
    assert closed["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in closed
    for thing in objects:
        if thing["kind"] == "NetworkPolicy":
            for rule in thing["spec"].get("ingress", []):
                assert all(peer and {} not in peer.values() for peer in rule["from"]), thing["metadata"]
    services = [thing for thing in objects if thing["kind"] == "Service"]
    assert {thing["spec"].get("type", "ClusterIP") for thing in services} == {"ClusterIP"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_database_is_reached_by_mlflow_alone(name):
    objects = overlay(name)
    database = {"app.kubernetes.io/component": "postgres"}
    (rule,) = allowed(objects, database, "Ingress")
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/component": "mlflow"}}}]
    assert [port["port"] for port in rule["ports"]] == [5432]


@pytest.mark.parametrize("name", OVERLAYS)
def test_from_beyond_ray_only_its_jobs_endpoints_and_metrics_are_reached(name):
    ray = {"ray.io/is-ray-node": "yes", "ray.io/node-type": "head"}
    reached = set()
    for rule in allowed(overlay(name), ray, "Ingress"):
        if rule["from"] == [{"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}}]:
            continue
        reached |= {port["port"] for port in rule["ports"]}
    assert reached == ({8265, 8000} if name == "cpu" else {8265, 8000, 8080})


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_the_machine_may_do_is_out_of_the_pods_reach(name):
    ray = {"ray.io/is-ray-node": "yes", "ray.io/node-type": "worker"}
    blocks = [
        peer["ipBlock"]
        for rule in allowed(overlay(name), ray, "Egress")
        for peer in rule["to"]
        if "ipBlock" in peer
    ]
    assert blocks
    assert all("169.254.0.0/16" in block["except"] for block in blocks)
