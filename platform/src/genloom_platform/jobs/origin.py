"""Within a job: which it is, and what came along. Told by the environment, which names no secret's value."""

import os
from dataclasses import dataclass

from genloom.errors import RequestError

JOB = "GENLOOM_JOB"
PLUGIN = "GENLOOM_PLUGIN"
SECRETS = "GENLOOM_SECRETS"
PRICE = "GENLOOM_PRICE_PER_HOUR"
"""What one worker of the job's cluster costs, as in "2.5 EUR"."""
AGAIN = "GENLOOM_STARTED_AGAIN"
PATIENCE_S = 600.0
"""How long a job waits for the machines of a cluster that has just been started again."""


@dataclass(frozen=True)
class Travelled:
    """A plugin that came with the job."""

    package: str
    version: str
    digest: str
    """SHA-256 of its wheel."""


def job() -> str | None:
    """The id of the job that this process is the command of; None elsewhere."""
    return os.environ.get(JOB) or None


def patience_s() -> float:
    """How long this process waits for the machines that it asks for.

    Not at all, but in a job that was started again with its cluster, whose other machines may come later.
    """
    return PATIENCE_S if os.environ.get(AGAIN) else 0.0


def plugin() -> Travelled | None:
    """The plugin that came with it."""
    words = os.environ.get(PLUGIN, "").split()
    return Travelled(words[0], words[1], words[2]) if len(words) == 3 else None


def digest_of(package: str) -> str | None:
    """The digest of an installed package, where it is the plugin that came with this job."""
    found = plugin()
    return found.digest if found and found.package == package.replace("_", "-").lower() else None


def check_secrets() -> None:
    """Raise RequestError where the cluster's machine lacks a variable that the profile's `secrets` name."""
    missing = [name for name in os.environ.get(SECRETS, "").split() if not os.environ.get(name)]
    if missing:
        raise RequestError(
            f"the environment of the cluster's machine {os.uname().nodename} has no "
            f"{', '.join(missing)}, which the profile's `secrets` name; set it there before `ray "
            "start`, or as a secret of the pod"
        )
