"""A cluster as it is seen from a laptop: what is told here, and what a job there tells."""

import email.utils
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import ValidationError

from genloom.errors import ClusterError, GenloomError
from genloom_platform import tokens
from genloom_platform.doctor import clocks, packages, ports, versions
from genloom_platform.doctor.findings import HERE, Finding, Report, Seen, finding, of_error, report
from genloom_platform.jobs.client import CLOSED, Cluster, session
from genloom_platform.jobs.submit import new_id, submit
from genloom_platform.profiles import LOOPBACK, Profile

if TYPE_CHECKING:
    import requests

JOB_S = 420
"""How long the job may take that looks at all machines."""
WRONG = "0" * 64
"""No cluster's token."""
ASKED = "/api/jobs/"
TIMEOUT_S = 20
CONNECT_S = 2
TRIED = 3
"""Ports of a machine; where none of them can be reached a firewall lies between, and the others are not tried."""
WHOLE_S = 1.0
"""How fine the time is that an answer carries."""


def examine(cluster: Cluster) -> Report:
    """What is wrong with a cluster, by a job that looks at each of its machines; less, where none can run."""
    found = [packages.python(), packages.packages(client=True)]
    own = Seen(where=HERE, findings=(), versions=packages.versions())
    try:
        tokens.read(cluster.profile)
    except GenloomError as error:
        return report([*found, of_error("token", error)], [own])
    found.append(finding("token", True, f"in {_source(cluster.profile)}", ""))
    try:
        cluster.connect()
        found += [reached(cluster), closed(cluster), clock(cluster)]
    except GenloomError as error:
        return report([*found, of_error("reached", error)], [own])
    try:
        there = _ask(cluster)
    except (GenloomError, TimeoutError, RuntimeError) as error:  # Ray's client has RuntimeError for all
        return report([*found, of_error("job", error)], [own])
    compared = [versions.compare_laptop(there.machines[0], own)] if there.machines else []
    knocked = [each for seen in there.machines for each in from_outside(seen)]
    return report([*found, *compared, *knocked, *there.findings], [*there.machines, own])


def from_outside(seen: Seen) -> list[Finding]:
    """Whether a machine's ports answer to this one; most often they cannot be reached from here at all."""
    near = any(_connects(seen.address, port.number) for port in seen.ports[:TRIED])
    reachable = [port for port in seen.ports if near and _connects(seen.address, port.number)]
    where = f"{seen.where}, from here"
    if not reachable:
        return [Finding(check="ports", where=where, well=True, seen="none can be reached from here")]
    return ports.check(where, seen.address, reachable, stranger=True)


def _connects(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), CONNECT_S).close()
    except OSError:
        return False
    return True


def reached(cluster: Cluster) -> Finding:
    """How the cluster is reached, and whether others could listen on the way."""
    address = cluster.profile.address or ""
    parts = urlsplit(address)
    clear = parts.scheme == "http" and parts.hostname not in LOOPBACK
    if not clear:
        how = {"https": "by TLS", "ssh": "through a tunnel by ssh"}.get(
            parts.scheme, "on this machine's loopback"
        )
        return finding("reached", True, f"{address or cluster.client.get_address()}, {how}", "")
    seen = f"{address}, where the token travels in clear text (trusted_network: true)"
    return finding("reached", True, seen, "")


def closed(cluster: Cluster) -> Finding:
    """Whether the job server refuses who shows no token, or a wrong one."""
    shown = {"no token": {}, "a wrong token": {"Authorization": f"Bearer {WRONG}"}}
    answers = {what: _get(cluster, headers).status_code for what, headers in shown.items()}
    wrong = [f"{what} ({status})" for what, status in answers.items() if status not in CLOSED]
    url = f"{cluster.client.get_address()}{ASKED}"
    if wrong:
        remedy = (
            "set RAY_AUTH_MODE=token before ray start, on every machine, and start the cluster anew"
        )
        return finding("ports", False, f"{url} answers with {' and '.join(wrong)}", remedy)
    return finding("ports", True, f"{url} refuses no token and a wrong one", "")


def clock(cluster: Cluster) -> Finding:
    """How far this machine's clock is from the one that answers, which tells whole seconds."""
    before = time.time()
    told = _get(cluster, {}).headers.get("Date")
    after = time.time()
    if not told:
        return finding("clock", True, "the cluster does not tell its time", "")
    there = email.utils.parsedate_to_datetime(told).timestamp() + WHOLE_S / 2
    return clocks.skew("the cluster", (before + after) / 2 - there, (after - before + WHOLE_S) / 2)


def _get(cluster: Cluster, headers: dict[str, str]) -> "requests.Response":
    """What the job server answers to one who shows these headers alone."""
    import requests

    url = f"{cluster.client.get_address()}{ASKED}"
    try:
        with session(cluster.profile, url) as asking:
            return asking.get(url, headers=headers, timeout=TIMEOUT_S)
    except requests.RequestException as error:
        raise ClusterError(f"{url} answered, and does no more: {error}; try again") from error


def _ask(cluster: Cluster) -> Report:
    """What a job on the cluster tells, which looks at all its machines."""
    job = submit(cluster, ["doctor", "--json"], id=new_id(["ask", "doctor"]), asks=True)
    state = job.wait(JOB_S)
    printed = "".join(job.logs()) if state.exit_status is not None else state.message
    lines = [line for line in printed.splitlines() if line.strip()]
    try:
        return Report.model_validate_json(lines[-1])
    except (IndexError, ValidationError) as error:
        last = " ".join(lines[-3:])[-400:] or f"nothing, and ended as {state.word}"
        remedy = f"see genloom jobs logs {job.id} --cluster {cluster.profile.name}"
        raise ClusterError(f"the job that looks at the machines printed {last}; {remedy}") from error


def _source(profile: Profile) -> str:
    source = profile.token_source
    return f"the environment's {source.env}" if source.env else str(source.file)
