"""What a laptop can do with a cluster by `ray job submit` and by the SDK, without anything that trains."""

import pytest

pytestmark = pytest.mark.hosts
SDK = """
import sys, genloom
lab = genloom.connect("lab")
run = lab.train("acme-dots", data="digits", name="sdk", steps=4, global_batch=24, workers=3,
                scale__cpus_per_worker=2, evaluate=False, samples={"every": 0})
run.wait()
print("trained", run.model, sorted(run.metrics), "is registered" in "".join(run.logs()))
sweep = lab.sweep({
    "run": {"generator": {"name": "acme-dots"}, "data": "digits", "steps": 4, "global_batch": 24,
            "evaluate": False, "samples": {"every": 0}},
    "space": {"optimizer.lr": {"choice": [0.01, 0.001]}}, "search": "grid", "metric": "loss", "mode": "min",
}, name="rates")
sweep.wait()
print("swept", len(sweep.models), sweep.models[0].full_name)
endpoint = lab.serve(run.model, name="sdk-endpoint", host="0.0.0.0", port=8000)
for text in endpoint.logs(follow=True):
    print(text, end="")
    if "Ctrl-C stops it" in text:
        break
with endpoint.connect(key=sys.stdin.readline().strip()) as served:
    print("generated", served.models["acme-dots"].generate(seed=1)[0].array.shape)
print("ended", endpoint.stop().word)
"""


def hosts_of(lab, run):
    """On which hosts the workers of a run were, by what their logs say."""
    logs = [
        path.read_text() for path in (lab.services.objects / "runs" / run / "logs").glob("rank-*.log")
    ]
    return {host.address for host in lab.cluster for log in logs if f"({host.address})" in log}


def test_the_laptop_has_nothing_that_trains_and_no_way_into_the_store(lab):
    status, output = lab.laptop("python", "-c", "import torch")
    assert (status, "No module named 'torch'" in output) == (1, True)
    assert not {*lab.services.secrets} & {*lab.laptop.environment}


def test_a_plugin_of_the_laptop_trains_over_all_hosts_by_rays_own_command(lab, plain):
    status, output = plain
    assert status == 0, output
    assert "model acme-dots@" in output
    assert hosts_of(lab, "plain") == {host.address for host in lab.cluster}
    version = lab.services.versions("acme-dots", run="plain")
    assert [each["status"] for each in version] == ["READY"]


@pytest.mark.chaos  # it takes minutes; on a cluster of one machine see `platform/jobs/test_handles.py`
def test_team_code_on_the_laptop_trains_sweeps_serves_and_generates(lab, key):
    status, output = lab.laptop("python", "-c", SDK, given=f"{key}\n")
    assert status == 0, output
    said = {line.partition(" ")[0]: line for line in output.splitlines()}
    assert said["trained"].startswith("trained acme-dots@")
    assert said["trained"].endswith("True")
    assert said["swept"].startswith("swept 1 acme-dots@")
    assert (said["generated"], said["ended"]) == ("generated (8, 8, 1)", "ended stopped")
    assert hosts_of(lab, "sdk") == {host.address for host in lab.cluster}
