"""The team's own plugin: a folder on this machine that becomes a wheel and travels with a job.

What it requires must be on the cluster: nothing is fetched for it, there or here where that can be helped.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from packaging.requirements import InvalidRequirement, Requirement

from genloom.errors import InvalidConfig, Problem, RequestError
from genloom_platform.units import size

GROUPS = "genloom."
"""What the entry points of plugins begin with."""
_HOOK = """
import sys
from functools import reduce
from importlib import import_module
out, backend, *sys.path[:0] = sys.argv[1:]
module, _, name = backend.partition(":")
reduce(getattr, filter(None, name.split(".")), import_module(module)).build_wheel(out)
"""
"""PEP 517, without pip around it, which takes four times as long."""
_OLDEST = "315532800"
"""1980: a wheel's times are those of this, so that the same sources make the same wheel."""


@dataclass(frozen=True)
class Wheel:
    """A plugin that travels."""

    path: Path
    package: str
    version: str
    digest: str
    """SHA-256 of the wheel."""

    def __str__(self) -> str:
        return f"{self.package} {self.version} sha256:{self.digest[:12]}"


def find(folder: Path) -> Path | None:
    """The folder, where it is a plugin's."""
    project = _project(folder)
    offered = _part(folder, project, "project.entry-points")
    return folder if any(group.startswith(GROUPS) for group in offered) else None


def chosen(folder: Path | None) -> Path | None:
    """The plugin's folder that was asked for, or the working folder where that is one's.

    Raises:
        RequestError: What was asked for is no plugin's.
    """
    return require(folder) if folder else find(Path())


def require(folder: Path) -> Path:
    """The folder.

    Raises:
        RequestError: It is no plugin's.
    """
    if not (folder / "pyproject.toml").is_file():
        raise RequestError(
            f"there is no pyproject.toml in {folder}, so it is no plugin's folder; genloom plugins new "
            "makes one"
        )
    if not find(folder):
        raise RequestError(
            f'{folder}/pyproject.toml offers nothing to Genloom; add [project.entry-points."genloom.generators"]'
        )
    return folder


def build(folder: Path, out: Path) -> Wheel:
    """Make the wheel that travels, in the folder `out`.

    Raises:
        RequestError: It does not build, and the last words are told; or what it makes must be installed to work.
    """
    with tempfile.TemporaryDirectory() as scratch:
        # setuptools would leave its files in the team's folder, and take files of an earlier build into this one.
        settings = Path(scratch, "setuptools.cfg")
        settings.write_text(f"[build]\nbuild_base={scratch}/build\n[egg_info]\negg_base={scratch}\n")
        environment = {**os.environ, "DIST_EXTRA_CONFIG": str(settings), "SOURCE_DATE_EPOCH": _OLDEST}
        made = Path(scratch, "made")
        made.mkdir()
        argv = _builder(folder, made)
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, cwd=folder)  # noqa: S603
        built = sorted(made.glob("*.whl"))
        if done.returncode or not built:
            raise RequestError(
                f"the plugin in {folder} does not build: {_last_words(done.stderr or done.stdout)}; "
                f"pip wheel --no-deps {folder} shows all of it"
            )
        path = Path(shutil.move(built[0], out / built[0].name))
    package, number, *_ = path.stem.split("-")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return _unpacks_whole(Wheel(path, package.replace("_", "-"), number, digest))


def _builder(folder: Path, out: Path) -> list[str]:
    """The command that builds: by what is installed here, where that suffices."""
    system = _part(folder, _table(folder), "build-system")
    if _can_build_here(_required(folder, system)):
        backend = system.get("build-backend", "setuptools.build_meta:__legacy__")
        beside = [str(folder.absolute() / path) for path in system.get("backend-path", [])]
        return [sys.executable, "-P", "-c", _HOOK, str(out), backend, *beside]
    quiet = ["--no-deps", "--disable-pip-version-check", "--no-cache-dir", "--quiet"]
    return [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        *quiet,
        "--wheel-dir",
        str(out),
        str(folder.absolute()),
    ]


def _unpacks_whole(wheel: Wheel) -> Wheel:
    """The wheel, which the cluster unpacks and does not install."""
    with zipfile.ZipFile(wheel.path) as file:
        apart = [
            name for name in file.namelist() if ".data/purelib/" in name or ".data/platlib/" in name
        ]
    if apart:
        raise RequestError(
            f"the wheel of {wheel.package} has modules that only an installer puts where they belong, as "
            f"{apart[0]}; let its build backend put them at the wheel's root"
        )
    return wheel


def largest(wheel: Path, count: int = 3) -> str:
    """The largest files in a wheel, with their sizes."""
    with zipfile.ZipFile(wheel) as file:
        entries = sorted(file.infolist(), key=lambda entry: -entry.compress_size)[:count]
    return ", ".join(f"{entry.filename} ({size(entry.compress_size)})" for entry in entries)


def _required(folder: Path, system: dict[str, Any]) -> list[Requirement]:
    """What the build requires."""
    listed = system.get("requires", ["setuptools"])
    try:
        if not isinstance(listed, list):
            raise InvalidRequirement("it is no list")
        return [Requirement(str(each)) for each in cast(list[object], listed)]
    except InvalidRequirement as error:
        rule = f"must list requirements ({' '.join(str(error).split())})"
        raise _wrong(folder, "build-system.requires", listed, rule, '["setuptools>=68"]') from error


def _can_build_here(required: list[Requirement]) -> bool:
    """Whether what the build requires is installed here; then nothing is fetched for it."""
    for requirement in required:
        try:
            if version(requirement.name) not in requirement.specifier:
                return False
        except PackageNotFoundError:
            return False
    return True


def _project(folder: Path) -> dict[str, Any]:
    return _part(folder, _table(folder), "project")


def _part(folder: Path, table: dict[str, Any], key: str) -> dict[str, Any]:
    """A table within one; empty where there is none."""
    found: object = table.get(key.rpartition(".")[2], {})
    if not isinstance(found, dict):
        raise _wrong(
            folder, key, found, "must be a table", f"[{key}] and its keys on lines of their own"
        )
    return cast(dict[str, Any], found)


def _wrong(folder: Path, key: str, value: object, rule: str, instead: str) -> InvalidConfig:
    problem = Problem(key, repr(value), rule, f"give {instead}")
    return InvalidConfig(str(folder / "pyproject.toml"), [problem])


def _table(folder: Path) -> dict[str, Any]:
    path = folder / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{path} is not valid TOML: {error}") from error


def _last_words(output: str, lines: int = 6) -> str:
    """The end of what was said, without the calls of a traceback."""
    said = [line for line in output.splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in said):
        said = [line for line in said if not line.startswith((" ", "Traceback"))]
    return "\n  ".join(said[-lines:]) or "no word why"
