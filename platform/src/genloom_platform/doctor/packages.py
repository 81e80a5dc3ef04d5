"""What is installed on a machine: Python, the packages that must be equal on all machines, the plugins."""

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from genloom.errors import GenloomError
from genloom_platform.doctor.findings import Finding, finding

OLDEST = (3, 11)
CLIENT = ("genloom", "genloom-platform", "ray", "pydantic")
"""What a client of clusters has."""
ENGINES = ("torch", "deepspeed", "pyarrow", "mlflow")
"""What trains besides."""


def versions() -> dict[str, str]:
    """Python's version and those of the packages and plugins, by name."""
    from genloom import registry

    found = {"python": platform.python_version()}
    for name in (*CLIENT, *ENGINES):
        if number := _version(name):
            found[name] = number
    return found | {each.package: each.version for each in registry.available().values()}


def is_client() -> bool:
    """Whether nothing that trains is installed here, but torch, which plugins bring."""
    return not any(map(_version, ENGINES[1:]))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def python() -> Finding:
    """Whether Python is new enough."""
    seen = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    least = ".".join(map(str, OLDEST))
    well = sys.version_info >= OLDEST
    return finding("python", well, seen, f"install Python {least} or newer")


def packages(*, client: bool) -> Finding:
    """Whether all is installed that trains, or that a client of clusters needs."""
    wanted = CLIENT if client else (*CLIENT, *ENGINES)
    found = {name: _version(name) for name in wanted}
    missing = [name for name, number in found.items() if not number]
    seen = ", ".join(f"{name} {number or 'missing'}" for name, number in found.items())
    if is_client():
        seen += "; nothing trains here: this is a client of clusters"
    return finding("packages", not missing, seen, f"pip install {' '.join(missing)}")


def compiler() -> Finding:
    """Whether DeepSpeed can compile its parts."""
    missing = [name for name in ("g++", "ninja") if not shutil.which(name) and not _beside_python(name)]
    seen = f"{' and '.join(missing)} missing" if missing else "g++ and ninja"
    return finding("compiler", not missing, seen, "install them: DeepSpeed compiles on first use")


def _beside_python(name: str) -> bool:
    return (Path(sys.executable).parent / name).exists()


def plugins() -> list[Finding]:
    """Whether every plugin can be imported; a client imports none."""
    from genloom import registry

    names = registry.available()
    broken: list[Finding] = []
    for name in () if is_client() else names:
        try:
            registry.load(name)
        except GenloomError as error:
            seen, _, remedy = str(error).rpartition("; ")
            broken.append(finding("plugins", False, seen, remedy))
    shown = f"{len(names)}: {', '.join(names)}" if names else "none"
    return broken or [finding("plugins", True, shown, "")]
