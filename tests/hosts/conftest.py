"""One network for all tests over several hosts, and a training that nothing disturbs."""

import json
import subprocess
import sys

import jobs_plugin
import lab as labs
import pytest

STEPS = 300
RUN = f"""\
generator: {{name: acme-dots}}
data: digits
steps: {STEPS}
global_batch: 24
scale: {{workers: [1, 3], cpus_per_worker: 2}}
checkpoint: {{every: 5}}
recovery: {{hung_s: 15}}
deepspeed: {{zero_optimization: {{stage: 2}}}}
evaluate: false
samples: {{every: 0}}
"""


@pytest.fixture(scope="package")
def lab(tmp_path_factory):
    """The cluster, the laptop and the services; the store holds the digits."""
    from genloom_platform.data.imports import import_dataset
    from genloom_platform.store import Store

    if reason := labs.unavailable():
        pytest.skip(reason)
    made = labs.Lab(tmp_path_factory.mktemp("lab"))
    import_dataset(Store(made.services.objects.as_uri()), "digits", None, None, {})
    with made:
        (made.laptop.work / "run.yaml").write_text(RUN)
        yield made


@pytest.fixture(scope="package")
def by_ray(lab, tmp_path_factory):
    """Sends a training as Ray's own command does, on three workers; gives its exit status and output."""
    # Ray installs what a wheel requires, and here there is no index.
    folder = jobs_plugin.write(tmp_path_factory.mktemp("plugin"), version="0.4.3", requires=())
    quiet = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    argv = [sys.executable, "-m", "pip", "wheel", *quiet, "--wheel-dir", lab.laptop.work / "dist"]
    subprocess.run([*argv, folder], check=True)
    files = {"working_dir": ".", "py_modules": ["dist/acme_dots-0.4.3-py3-none-any.whl"]}

    def send(name, *words):
        train = ["genloom", "train", "run.yaml", *words, "--workers", "3", "--name", name]
        return lab.laptop("ray", "job", "submit", "--runtime-env-json", json.dumps(files), "--", *train)

    return send


@pytest.fixture(scope="package")
def plain(by_ray):
    """A short training that nothing disturbs; its exit status and output."""
    return by_ray("plain", "steps=24", "checkpoint.every=12")


@pytest.fixture(scope="package")
def key(lab):
    """A key for the endpoints, as whoever runs the cluster gives it to people."""
    status, output = lab.cluster[0].run(["genloom", "keys", "add", "laptop"])
    assert status == 0, output
    return output.split()[-1]
