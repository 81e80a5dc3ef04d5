"""The image's recipe."""

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest

HADOLINT = str(Path(sys.executable).parent / "hadolint")


def lint(path):
    return subprocess.run([HADOLINT, "--no-color", str(path)], capture_output=True, text=True)


@pytest.fixture
def recipe(root):
    return root / "deploy/Dockerfile"


def test_it_lints_clean(recipe):
    done = lint(recipe)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("line", "rule"),
    [("RUN sudo true", "DL3004"), ("RUN pip install ray", "DL3013"), ("ADD . /", "DL3020")],
)
def test_a_bad_line_does_not_lint(recipe, tmp_path, line, rule):
    worse = tmp_path / "Dockerfile"
    worse.write_text(f"{recipe.read_text()}\n{line}\n")
    done = lint(worse)
    assert done.returncode == 1
    assert rule in done.stdout


def test_it_ends_as_a_user_who_is_not_root(recipe):
    _, _, runtime = recipe.read_text().partition("AS runtime\n")
    assert re.findall(r"^USER (.*)$", runtime, re.MULTILINE) == ["1000:1000"]


def test_it_is_made_of_our_packages_and_the_pinned_versions_alone(recipe):
    text = recipe.read_text()
    installs = re.findall(r"pip install (.*?)(?:\n[^ ]|$)", text.replace("\\\n", " "))
    assert len(installs) == 4
    for words in installs:
        assert "--constraint" in words or "--no-deps" in words, words
    # torch for CPUs comes from its makers; nothing else has an address.
    assert re.findall(r"https?://\S+", text) == ["https://download.pytorch.org/whl/cpu"]
    names = re.findall(r"([A-Z_]+)=", text)
    assert not [name for name in names if re.search("TOKEN|SECRET|PASSWORD|KEY", name)]


def test_only_what_the_image_is_made_of_travels_into_a_build(root):
    lines = (root / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines

    def travels(path):
        ways = [path, *map(str, Path(path).parents)]
        return any(fnmatch.fnmatchcase(way, pattern) for way in ways for pattern in kept)

    for path in root.glob("plugins/*/pyproject.toml"):
        assert travels(str(path.relative_to(root)))
        assert travels(str(path.parent.relative_to(root) / "src"))
    assert travels("sdk/src/genloom/client.py")
    assert not travels(".git/config")
    assert not travels(".venv/bin/python")
    assert not travels("secrets/token")


def test_python_is_the_one_that_the_packages_lie_under(recipe):
    text = recipe.read_text()
    (python,) = re.findall(r"^ARG PYTHON=(\d+\.\d+)\.\d+$", text, re.MULTILINE)
    assert set(re.findall(r"lib/python(\d+\.\d+)/", text)) == {python}
