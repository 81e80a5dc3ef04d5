"""Kubernetes manifests as kubectl renders them, and the schemas that they are held to."""

import functools
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

KUBERNETES = "1.34"
ROOT = Path(__file__).parent.parent
OVERLAYS = ("cpu", "aws", "aws-run")
KUBECTL = str(Path(sys.executable).parent / "kubectl")


@functools.cache
def _rendered(folder):
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout


def render(folder):
    """All that `kubectl apply -k` would send, newly parsed."""
    return list(yaml.safe_load_all(_rendered(str(folder))))


def overlay(name):
    return render(ROOT / "deploy/kubernetes/overlays" / name)


def named(objects, kind, name=None):
    (found,) = (o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"]))
    return found


def pods(objects):
    """(where, pod template) of all pods that would run."""
    for thing in objects:
        spec, where = thing.get("spec", {}), f"{thing['kind']} {thing['metadata']['name']}"
        if thing["kind"] in ("Deployment", "StatefulSet"):
            yield where, spec["template"]
        if "submitterPodTemplate" in spec:
            yield f"{where}: submitter", spec["submitterPodTemplate"]
        for cluster in clusters([thing]):
            yield f"{where}: head", cluster["headGroupSpec"]["template"]
            for group in cluster["workerGroupSpecs"]:
                yield f"{where}: {group['groupName']}", group["template"]


def clusters(objects):
    """The specs of all Ray clusters."""
    keys = {"RayCluster": None, "RayJob": "rayClusterSpec", "RayService": "rayClusterConfig"}
    for thing in objects:
        if thing["kind"] in keys:
            key = keys[thing["kind"]]
            yield thing["spec"][key] if key else thing["spec"]


def grows_to(cluster):
    """What Ray has with all pods of a Ray cluster's spec, by kind, as a head is told it."""
    head, most = cluster["headGroupSpec"], {"CPU": 0, "GPU": 0}
    groups = [(1, head), *((group["maxReplicas"], group) for group in cluster["workerGroupSpecs"])]
    for count, group in groups:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        told = group["rayStartParams"].get("num-cpus", limits["cpu"])
        most["CPU"] += count * int(told)
        most["GPU"] += count * int(limits.get("nvidia.com/gpu", 0))
    return ",".join(f"{kind}={count}" for kind, count in most.items() if count)


def gibibytes(quantity):
    assert quantity.endswith("Gi")
    return int(quantity[:-2])


def check(thing):
    """Hold an object to its schema; an unknown field is an error as well.

    Raises:
        ValidationError: Kubernetes, KubeRay or the Prometheus operator would refuse it.
    """
    group = thing["apiVersion"]
    if group not in ("ray.io/v1", "monitoring.coreos.com/v1"):
        kubernetes_validate.validate(thing, KUBERNETES, strict=True)
        return
    schema, registry = _ours(group.replace("/", "_"))
    if thing["kind"] not in schema["$defs"]:
        raise ValidationError(f"kind = {thing['kind']}: not in {group}")
    target = {"$ref": f"{schema['$id']}#/$defs/{thing['kind']}"}
    Draft202012Validator(target, registry=registry).validate(thing)


@functools.cache
def _ours(name):
    schema = yaml.safe_load((ROOT / "tests/deploy" / f"{name}.yaml").read_text())
    folder = f"kubernetes-json-schema/v{KUBERNETES}.0-local-strict/_definitions.json"
    theirs = json.loads(resources.files(kubernetes_validate).joinpath(folder).read_text())
    found = [Resource.from_contents(each) for each in (schema, theirs)]
    return schema, found @ Registry()
