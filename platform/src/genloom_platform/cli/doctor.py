"""`genloom doctor`: what this machine can do, and what is wrong with it."""

import os
import platform as machine
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from genloom_platform.cli.screen import console
from genloom_platform.units import size

PACKAGES = ("genloom", "genloom-platform", "ray", "torch", "deepspeed", "pyarrow", "mlflow", "pydantic")
SHARED = "/dev/shm"  # noqa: S108
MIN_SHARED_BYTES = 1 << 30
MIN_FREE_BYTES = 5 << 30

Finding = tuple[bool, str]
"""Whether it is well, and what was seen (with the remedy where it is not)."""


def doctor() -> None:
    """Check this machine: versions, compiler, memory, disk, store, token, plugins."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "packages": _packages,
        "compiler": _compiler,
        "processors": _processors,
        "shared memory": lambda: _space(
            SHARED, MIN_SHARED_BYTES, "enlarge /dev/shm: Ray keeps objects there"
        ),
        "disk": lambda: _space(
            tempfile.gettempdir(), MIN_FREE_BYTES, "make room there: Ray spills there"
        ),
        "store": _store,
        "token": _token,
        "plugins": _plugins,
    }
    wrong = 0
    for name, check in checks.items():
        well, seen = check()
        wrong += not well
        mark = "[green]ok[/]  " if well else "[red]fix[/] "
        console.print(f"{mark} [dim]{name:14}[/]", end="")
        console.print(seen, markup=False)
    if wrong:
        raise typer.Exit(1)


def _python() -> Finding:
    found = machine.python_version()
    return sys.version_info >= (
        3,
        11,
    ), f"{found} on {machine.system()} {machine.machine()} (3.11 or newer)"


def _packages() -> Finding:
    found: list[str] = []
    missing: list[str] = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    return not missing, ", ".join(found) + (f"; pip install {' '.join(missing)}" if missing else "")


def _compiler() -> Finding:
    missing = [name for name in ("g++", "ninja") if not shutil.which(name) and not _beside_python(name)]
    if missing:
        return False, f"{' and '.join(missing)} missing: DeepSpeed compiles on first use; install them"
    return True, "g++ and ninja"


def _beside_python(name: str) -> bool:
    return (Path(sys.executable).parent / name).exists()


def _processors() -> Finding:
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return True, f"{os.cpu_count()} CPUs, {size(memory)} memory, GPUs: {', '.join(gpus) or 'none'}"


def _space(path: str, least: int, remedy: str) -> Finding:
    if not Path(path).exists():
        return True, f"{path} is not used on this system"
    free = shutil.disk_usage(path).free
    return free >= least, f"{size(free)} free in {path}" + ("" if free >= least else f"; {remedy}")


def _store() -> Finding:
    from genloom.errors import GenloomError
    from genloom_platform.store import Store, default_url

    try:
        Store().check_writable()
    except (GenloomError, OSError) as error:
        return False, str(error)
    return True, f"{default_url()} can be written"


def _token() -> Finding:
    token = Path.home() / ".ray" / "auth_token"
    if not token.exists():
        return True, "none yet; the first cluster on this machine makes one"
    open_to_others = token.stat().st_mode & 0o077
    return not open_to_others, f"{token}" + (
        f" is readable by others; chmod 600 {token}" if open_to_others else ""
    )


def _plugins() -> Finding:
    from genloom import registry
    from genloom.errors import GenloomError

    broken: list[str] = []
    names = registry.available()
    for name in names:
        try:
            registry.load(name)
        except GenloomError as error:
            broken.append(str(error))
    return not broken, "; ".join(broken) or f"{len(names)}: {', '.join(names)}"
