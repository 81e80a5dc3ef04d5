"""The team's own plugin: a folder on this machine that becomes a wheel and travels with a job.

Ray tells wheels apart by their file names alone, and installs with each what it requires, from an index. So
the wheel that travels has its digest in its name (as the build tag), and no requirements: those must be on the
cluster.
"""

import base64
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from genloom.errors import RequestError
from genloom_platform.units import size

GROUPS = "genloom."
"""What the entry points of plugins begin with."""
_REQUIRES = re.compile(r"^(Requires-Dist|Provides-Extra):.*\r?\n", re.MULTILINE)
_OLDEST = "315532800"
"""1980: a wheel's times are those of this, so that the same sources make the same wheel."""


@dataclass(frozen=True)
class Wheel:
    """A plugin that travels."""

    path: Path
    package: str
    version: str
    digest: str
    """SHA-256 of the wheel as its sources made it."""

    def __str__(self) -> str:
        return f"{self.package} {self.version} sha256:{self.digest[:12]}"


def find(folder: Path) -> Path | None:
    """The folder, where it is a plugin's."""
    project = _project(folder)
    return (
        folder if any(group.startswith(GROUPS) for group in project.get("entry-points", {})) else None
    )


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
        RequestError: It does not build; the last that was said of it is told.
    """
    with tempfile.TemporaryDirectory() as scratch:
        # setuptools would leave its files in the team's folder, and take files of an earlier build into this one.
        settings = Path(scratch, "setuptools.cfg")
        settings.write_text(f"[build]\nbuild_base={scratch}/build\n[egg_info]\negg_base={scratch}\n")
        quiet = ["--no-deps", "--disable-pip-version-check", "--no-cache-dir", "--quiet"]
        alone = ["--no-build-isolation"] if _can_build_here(folder) else []
        argv = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            *quiet,
            *alone,
            "--wheel-dir",
            scratch,
            str(folder),
        ]
        environment = {**os.environ, "DIST_EXTRA_CONFIG": str(settings), "SOURCE_DATE_EPOCH": _OLDEST}
        done = subprocess.run(argv, capture_output=True, text=True, env=environment)  # noqa: S603
        built = sorted(Path(scratch).glob("*.whl"))
        if done.returncode or not built:
            raise RequestError(
                f"the plugin in {folder} does not build: {_last_words(done.stderr + done.stdout)}; "
                f"pip wheel --no-deps {folder} shows all of it"
            )
        return _for_the_journey(built[0], out)


def _for_the_journey(wheel: Path, out: Path) -> Wheel:
    """A wheel without its requirements, and with its digest in its name."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    package, number, *_, python, abi, system = wheel.stem.split("-")
    path = out / f"{package}-{number}-1{digest[:12]}-{python}-{abi}-{system}.whl"
    records: list[str] = []
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        record = next(name for name in old.namelist() if name.endswith(".dist-info/RECORD"))
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename == record:
                continue
            if entry.filename == record.replace("RECORD", "METADATA"):
                head, blank, body = content.decode().partition("\n\n")
                content = (_REQUIRES.sub("", f"{head}\n").rstrip("\n") + blank + body).encode()
            new.writestr(entry, content)
            hashed = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            records.append(f'"{entry.filename}",sha256={hashed},{len(content)}\n')
        new.writestr(old.getinfo(record), "".join([*records, f"{record},,\n"]))
    return Wheel(path, package.replace("_", "-"), number, digest)


def largest(wheel: Path, count: int = 3) -> str:
    """The largest files in a wheel, with their sizes."""
    with zipfile.ZipFile(wheel) as file:
        entries = sorted(file.infolist(), key=lambda entry: -entry.compress_size)[:count]
    return ", ".join(f"{entry.filename} ({size(entry.compress_size)})" for entry in entries)


def _can_build_here(folder: Path) -> bool:
    """Whether what the build requires is installed here; then nothing is fetched for it."""
    system = _table(folder).get("build-system", {})
    for requirement in map(Requirement, system.get("requires", ["setuptools"])):
        try:
            if version(requirement.name) not in requirement.specifier:
                return False
        except PackageNotFoundError:
            return False
    return True


def _project(folder: Path) -> dict[str, Any]:
    return _table(folder).get("project", {})


def _table(folder: Path) -> dict[str, Any]:
    path = folder / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{path} is not valid TOML: {error}") from error


def _last_words(output: str, lines: int = 6) -> str:
    return "\n  ".join([line for line in output.splitlines() if line.strip()][-lines:]) or "no word why"
