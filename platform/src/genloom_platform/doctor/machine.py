"""What a machine sees of itself: the same checks on this machine, and on every machine of a cluster."""

import datetime
import os
import shutil
import tempfile
from pathlib import Path

from genloom.errors import GenloomError
from genloom_platform import tokens
from genloom_platform.doctor import gpus, packages
from genloom_platform.doctor.findings import HERE, Finding, Seen, finding, of_error
from genloom_platform.units import size

SHARED = "/dev/shm"  # noqa: S108
MIN_SHARED_BYTES = 1 << 30
MIN_FREE_BYTES = 5 << 30
SOON_DAYS = 14
"""A certificate that counts for less is told."""
MAX_USED = 0.95
"""Of a disk; beyond, Ray makes no more objects there (`local_fs_capacity_threshold`)."""


def look() -> Seen:
    """This machine, as far as it can be told without a cluster; a client of clusters needs less."""
    if packages.is_client():
        found = [
            packages.python(),
            packages.packages(client=True),
            *packages.plugins(),
            processors(),
            token(),
        ]
        return Seen(where=HERE, findings=tuple(found), versions=packages.versions())
    seen = look_at_engines(MIN_SHARED_BYTES, tempfile.gettempdir())
    return seen.model_copy(update={"findings": (*seen.findings, store())})


def look_at_engines(shared_bytes: int, folder: str) -> Seen:
    """A machine that trains, but for its store.

    Args:
        shared_bytes: What Ray wants of the shared memory.
        folder: Where Ray spills.
    """
    found, count, versions = gpus.look()
    findings = (
        packages.python(), packages.packages(client=False), *packages.plugins(), packages.compiler(),
        processors(), found, shared_memory(shared_bytes), disk(folder), token(), *certificate(), tracking(),
    )  # fmt: skip
    return Seen(
        where=HERE, findings=findings, versions=packages.versions(), gpus=count, gpu_versions=versions
    )


def processors() -> Finding:
    """How many CPUs, and how much memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return finding("processors", True, f"{os.cpu_count()} CPUs, {size(memory)} memory", "")


def shared_memory(wanted_bytes: int) -> Finding:
    """Whether Ray's objects have room where processes share memory."""
    if not Path(SHARED).exists():
        return finding("shared memory", True, f"{SHARED} is not used on this system", "")
    free = shutil.disk_usage(SHARED).free
    seen = f"{size(free)} free in {SHARED}" + (
        f", of {size(wanted_bytes)} that are wanted" if free < wanted_bytes else ""
    )
    remedy = (
        f"enlarge {SHARED} (mount -o remount,size=…; for a pod an emptyDir of medium Memory), or Ray keeps "
        f"objects on the disk"
    )
    return finding("shared memory", free >= wanted_bytes, seen, remedy)


def disk(folder: str) -> Finding:
    """Whether there is room where Ray spills and writes its logs."""
    usage = shutil.disk_usage(folder)
    used = 1 - usage.free / usage.total
    well = usage.free >= MIN_FREE_BYTES and used < MAX_USED
    seen = f"{size(usage.free)} free in {folder} ({used:.0%} used)"
    remedy = (
        f"make room there: Ray spills there, and makes no more objects where {MAX_USED:.0%} are used"
    )
    return finding("disk", well, seen, remedy)


def certificate() -> list[Finding]:
    """Whether what this machine shows the others counts for a while; nothing where they speak in clear text."""
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return []
    from genloom_platform import certificates

    path = Path(os.environ.get("RAY_TLS_SERVER_CERT", ""))
    remedy = "genloom cluster down and up makes and brings another, where it has made this one"
    try:
        until = certificates.expires(path)
    except (OSError, ValueError) as error:
        return [finding("TLS", False, f"{path} cannot be read: {error}", remedy)]
    left = until - datetime.datetime.now(datetime.UTC)
    seen = f"between machines, by a certificate until {until:%Y-%m-%d}"
    return [finding("TLS", left.days >= SOON_DAYS, seen, remedy)]


def token() -> Finding:
    """Whether Ray asks for a token here, and whether that can be read by its owner alone."""
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if mode != "token":
        remedy = (
            "set RAY_AUTH_MODE=token before ray start, on every machine, and start the cluster anew"
        )
        return finding(
            "token",
            False,
            f"RAY_AUTH_MODE is {mode}: whoever reaches the cluster runs code there",
            remedy,
        )
    path = tokens.here().file
    if path is None:
        return finding("token", True, "in the environment's RAY_AUTH_TOKEN", "")
    if not path.exists():
        if "RAY_ADDRESS" in os.environ:
            return finding(
                "token", False, f"there is no {path}", "give this machine the token of its cluster"
            )
        return finding("token", True, "none yet; the first cluster on this machine makes one", "")
    permissions = path.stat().st_mode & 0o777
    closed = not permissions & 0o077
    seen = f"in {path}" if closed else f"others can read {path} (its mode is {permissions:o})"
    return finding("token", closed, seen, f"chmod 600 {path}")


def store() -> Finding:
    """Whether the store can be written."""
    from genloom_platform.store import Store, default_url

    try:
        Store().check_writable()
    except (GenloomError, OSError) as error:
        return of_error("store", error)
    return finding("store", True, f"{default_url()} can be written", "")


def tracking() -> Finding:
    """Whether the tracking server answers, and takes the password that this machine has."""
    from genloom_platform.models import database
    from genloom_platform.store import Store

    address = os.environ.get("GENLOOM_TRACKING", "")
    if not address.startswith("http"):
        return finding("tracking", True, _registry(), "")
    try:
        database.Client(Store())
    except GenloomError as error:
        return of_error("tracking", error)
    return finding("tracking", True, f"{database.shown(address)} answers", "")


def _registry() -> str:
    from genloom_platform.models.database import tracking_uri
    from genloom_platform.store import Store

    store = Store()
    if store.folder is None and "GENLOOM_TRACKING" not in os.environ:
        return f"{tracking_uri(store)}, on this machine alone; a team shares a server: GENLOOM_TRACKING"
    return tracking_uri(store)
