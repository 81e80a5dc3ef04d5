"""`genloom plugins new`: a package that installs, is found by its name, and keeps the contract as it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from genloom.errors import NameConflict, RequestError, UnknownName
from genloom_platform.plugins.scaffold import KINDS, new

NAMES = {"image": "tiny-faces", "text": "small-talk", "audio": "door-bells", "predictor": "which-one"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A new package of each kind."""
    root = tmp_path_factory.mktemp("new")
    return {kind: new(name, kind, root / name) for kind, name in NAMES.items()}


@pytest.fixture(scope="module")
def installed(made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which all of them are installed."""
    target = tmp_path_factory.mktemp("installed")
    options = ["-q", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, *map(str, made.values())], check=True
    )
    return {**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}


def run(arguments: list[str], environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "image"])
def test_each_kind_is_found_by_its_name_and_keeps_the_contract(
    kind: str, made: dict[str, Path], installed: dict[str, str]
) -> None:
    code = f"import genloom.testing as t; print(t.check({NAMES[kind]!r}, distributed=False))"
    told = run(["-c", code], installed, made[kind])
    assert told.startswith(f"{NAMES[kind]} keeps the contract")
    assert "worth a look" not in told


def test_its_own_test_passes_and_trains_at_every_stage(
    made: dict[str, Path], installed: dict[str, str]
) -> None:
    told = run(["-m", "pytest", "-q", "-p", "no:cacheprovider"], installed, made["image"])
    assert "1 passed" in told


def test_the_files_say_the_authors_name_and_nothing_of_the_template(made: dict[str, Path]) -> None:
    for kind, folder in made.items():
        package = NAMES[kind].replace("-", "_")
        files = {
            str(path.relative_to(folder)): path.read_text()
            for path in folder.rglob("*")
            if path.is_file()
        }
        assert {
            "pyproject.toml",
            "README.md",
            f"src/{package}/__init__.py",
            f"src/{package}/model.py",
            f"tests/test_{package}.py",
        } <= set(files)
        for text in files.values():
            for word in (
                "my-generator",
                "my_generator",
                "MyGenerator",
                "WHAT ",
                str(folder),
                str(Path.home()),
            ):
                assert word not in text
        assert f"genloom train {NAMES[kind]} data=" in files["README.md"]


@pytest.mark.parametrize(
    ("name", "kind", "error", "words"),
    [
        ("faces", "imge", UnknownName, "did you mean 'image'"),
        ("Tiny Faces", "image", RequestError, "as in tiny-faces"),
        ("class", "image", RequestError, "keyword"),
        ("../faces", "image", RequestError, "no name"),
        ("image-vae", "image", NameConflict, "genloom-image"),
        ("json", "image", NameConflict, "module 'json'"),
        ("torch", "image", NameConflict, "module 'torch'"),
    ],
)
def test_what_cannot_be_made_is_refused_and_nothing_written(
    name: str, kind: str, error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        new(name, kind, tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RequestError, match="not empty"):
        new("faces", "image", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "empty").mkdir()
    assert new("faces", "image", tmp_path / "empty") == tmp_path / "empty"
