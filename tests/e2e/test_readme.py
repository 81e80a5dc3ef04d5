"""Everything that the README shows, run as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

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

    def run(*words, cwd=folder):
        done = subprocess.run(
            words, capture_output=True, text=True, env=environment, cwd=cwd, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

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


def test_the_plugin_is_listed_checked_trained_and_served(readme, place):
    folder, packages, run = place
    code = block(readme, "`src/acme_blobs.py`:", "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 50
    (folder / "blobs" / "src").mkdir(parents=True)
    (folder / "blobs/src/acme_blobs.py").write_text(code)
    (folder / "blobs/pyproject.toml").write_text(block(readme, "`pyproject.toml`:", "toml"))
    pip_install(run, packages, folder / "blobs")
    assert "acme-blobs" in run("genloom", "plugins", "list")
    commands = block(readme, "`pyproject.toml`:", "sh")
    lines = [
        line.partition("#")[0].split() for line in commands.splitlines() if line.startswith("genloom")
    ]
    (check, train, serve) = lines
    run(*check)
    assert "acme-blobs@1 is registered" in run(*train)
    serve_and_ask(run, folder, serve[1:], "acme-blobs")


def test_a_package_made_by_plugins_new_is_checked_trained_and_served(place):
    folder, packages, run = place
    run("genloom", "plugins", "new", "my-pictures", "--kind", "image")
    pip_install(run, packages, folder / "my-pictures")
    assert "my-pictures" in run("genloom", "plugins", "list")
    run("genloom", "plugins", "check", "my-pictures")
    assert "my-pictures@1" in run("genloom", "train", "my-pictures", "steps=20", "--data", "digits")
    serve_and_ask(run, folder, ["serve", "my-pictures"], "my-pictures")


def test_a_strangers_vqvae_is_checked_trained_and_served(place, root):
    folder, packages, run = place
    pip_install(run, packages, root / "tests" / "plugins" / "vqvae")
    run("genloom", "plugins", "check", "acme-vqvae")
    trained = run("genloom", "train", "acme-vqvae", "steps=40", "--data", "digits", "--workers", "2")
    assert "acme-vqvae@1 is registered" in trained
    serve_and_ask(run, folder, ["serve", "acme-vqvae"], "acme-vqvae")


def test_the_links_lead_somewhere(readme, root):
    prose = re.sub(r"```.*?```", "", readme, flags=re.DOTALL)
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", prose):
        assert (root / target).exists(), target


def serve_and_ask(run, folder: Path, words, model):
    """Serve a model, ask it for two pictures by the command line, and stop."""
    port = "8377"
    environment = {**os.environ, "GENLOOM_STORE": (folder / "store").as_uri()}
    environment["PYTHONPATH"] = str(folder / "packages")
    server = subprocess.Popen(
        ["genloom", *words, "--port", port], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert f"http://127.0.0.1:{port}" in server.stdout.readline()
        url = f"http://127.0.0.1:{port}"
        run(
            "genloom",
            "generate",
            model,
            "--endpoint",
            url,
            "--count",
            "2",
            "--seed",
            "1",
            "--out",
            "asked",
        )
        run("genloom", "generate", model, "--count", "2", "--seed", "1", "--out", "made")
        for picture in (folder / "made").glob(f"{model}-*"):
            assert (folder / "asked" / picture.name).read_bytes() == picture.read_bytes()
        assert len(list((folder / "made").glob(f"{model}-*"))) == 2
    finally:
        server.terminate()
        server.wait(60)
