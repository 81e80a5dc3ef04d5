"""Everything that the README shows, run as it stands there."""

import os
import re
import socket
import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text()


def block(readme, heading, kind):
    """The first code block of a kind after some words."""
    return re.search(rf"{re.escape(heading)}.*?```{kind}\n(.*?)```", readme, re.DOTALL).group(1)


@pytest.fixture(scope="module")
def place(tmp_path_factory, root):
    """A folder, and an environment whose packages come before the installed ones."""
    folder = tmp_path_factory.mktemp("readme")
    packages = folder / "packages"
    environment = {
        **os.environ,
        "GENLOOM_STORE": (folder / "store").as_uri(),
        "PYTHONPATH": str(packages),
    }

    def run(*words):
        done = subprocess.run(
            words, capture_output=True, text=True, env=environment, cwd=folder, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run.environment = environment
    run("genloom", "data", "import", "digits")
    return folder, packages, run


def pip_install(run, packages, folder):
    """As `pip install`, into a folder of the test's own, so that nothing else sees the package."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(packages)]
    run(sys.executable, "-m", "pip", "install", *options, str(folder))


def test_the_five_lines_train_and_draw(readme, place):
    folder, _, run = place
    code = block(readme, "## From team code", "python")
    assert len([line for line in code.splitlines() if line and not line.startswith("import")]) <= 5
    (folder / "team.py").write_text(code.replace("steps=1000", "steps=20"))
    assert "image-vae@1" in run(sys.executable, "team.py")
    assert (folder / "three.png").stat().st_size > 50


@pytest.fixture(scope="module")
def blobs(readme, place):
    """The README's plugin, installed, checked and trained; what was said of it: the list, the training."""
    folder, packages, run = place
    (folder / "blobs" / "src").mkdir(parents=True)
    (folder / "blobs/src/acme_blobs.py").write_text(block(readme, "`src/acme_blobs.py`:", "python"))
    (folder / "blobs/pyproject.toml").write_text(block(readme, "`pyproject.toml`:", "toml"))
    pip_install(run, packages, folder / "blobs")
    check, train, _ = commands(readme)
    listed = run("genloom", "plugins", "list")
    run(*check)
    return listed, run(*(word.replace("steps=500", "steps=20") for word in train))


@pytest.fixture(scope="module")
def pictures(place):
    """What `plugins new` makes; the conformance kit looks at it in `platform/plugins/test_scaffold.py`."""
    folder, packages, run = place
    run("genloom", "plugins", "new", "my-pictures", "--kind", "image")
    pip_install(run, packages, folder / "my-pictures")
    listed = run("genloom", "plugins", "list")
    return listed, run("genloom", "train", "my-pictures", "steps=20", "--data", "digits")


@pytest.fixture(scope="module")
def vqvae(place, root):
    """A stranger's package, whose loss changes buffers."""
    _, packages, run = place
    pip_install(run, packages, root / "tests" / "plugins" / "vqvae")
    run("genloom", "plugins", "check", "acme-vqvae")
    return run("genloom", "train", "acme-vqvae", "steps=20", "--data", "digits", "--workers", "2")


def test_the_plugin_is_listed_checked_and_trained(readme, blobs):
    code = block(readme, "`src/acme_blobs.py`:", "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 50
    listed, trained = blobs
    assert "acme-blobs" in listed
    assert "acme-blobs@1 is registered" in trained


@pytest.mark.chaos  # its conformance and its training as a loop: `platform/plugins/test_scaffold.py`
def test_a_package_made_by_plugins_new_is_listed_and_trained(pictures):
    listed, trained = pictures
    assert "my-pictures" in listed
    assert "my-pictures@1" in trained


def test_a_strangers_vqvae_is_checked_and_trained(vqvae):
    assert "acme-vqvae@1 is registered" in vqvae


@pytest.mark.usefixtures("blobs", "vqvae")
def test_they_are_served_together_and_draw_as_on_this_machine(readme, place):
    folder, _, run = place
    *_, serve = commands(readme)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    words = [*serve, "acme-vqvae", "--port", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=run.environment)
    try:
        assert url in server.stdout.readline()
        server.stdout.close()  # an endpoint goes on where nobody reads what it says
        for model in ("acme-blobs", "acme-vqvae"):
            ask = ["genloom", "generate", model, "--count", "2", "--seed", "1", "--out"]
            run(*ask, "asked", "--endpoint", url)
            assert len(list((folder / "asked").glob(f"{model}-*"))) == 2
        run(*ask, "made")
        for picture in (folder / "made").iterdir():
            assert (folder / "asked" / picture.name).read_bytes() == picture.read_bytes()
        assert len(list((folder / "made").iterdir())) == 2
    finally:
        server.terminate()
        server.wait(60)


def commands(readme):
    """What the README shows of a plugin's commands: check, train and serve."""
    shown = block(readme, "`pyproject.toml`:", "sh").splitlines()
    return [line.partition("#")[0].split() for line in shown if line.startswith("genloom")]


def test_the_links_lead_somewhere(readme, root):
    prose = re.sub(r"```.*?```", "", readme, flags=re.DOTALL)
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", prose):
        assert (root / target).exists(), target
