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
    """What Ray has in each pod of a Ray cluster's spec, the groups in their order and with all of their pods."""
    groups = [(1, cluster["headGroupSpec"])]
    groups += [(group["maxReplicas"], group) for group in cluster["workerGroupSpecs"]]
    found = []
    for count, group in groups:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        cpus = int(group["rayStartParams"].get("num-cpus", limits["cpu"]))
        each = {"CPU": cpus, "GPU": int(limits.get("nvidia.com/gpu", 0))}
        found += [{kind: number for kind, number in each.items() if number}] * count
    return [each for each in found if each]


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
