"""Ports of a machine that others reach, and whether they answer to those who show no credential."""

import http.client
import ipaddress
import os
import re
import socket
import ssl
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from genloom_platform.doctor.findings import Finding, Port
from genloom_platform.settings import Settings

TIMEOUT_S = 3
LISTENS = "0A"
RAYS = re.compile(r"(^ray::|/ray/|\bray start\b|genloom)")
"""The processes of a cluster, by their command; what else listens on a machine is not ours to judge."""
ASKED = (
    "/api/version",
    "/api/jobs/",
    "/metrics",
    "/v1/models",
    "/api/2.0/mlflow/experiments/search?max_results=1",
)
"""What tells something, of the servers that a cluster has."""
CALLED = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.RayletDriver/ClusterInfo",
    "/ray.rpc.ReporterService/GetTraceback",
)
"""What tells or does something, one of each service."""
NO_SUCCESS = 300
PROMETHEUS = b"# HELP"
"""How the page of a Prometheus client begins."""
METRICS = (
    "set RAY_enable_metrics_collection=0 DASHBOARD_METRIC_PORT=-1 AUTOSCALER_METRIC_PORT=-1 before ray start, or "
    "let a firewall admit Prometheus alone"
)
MAX_AT_ONCE = 16
SHOWN = 40
"""Characters of a command."""


def listening() -> tuple[Port, ...]:
    """The ports on which Ray's processes of this machine can be reached from others, by Linux's own tables."""
    owners = _owners()
    found: dict[int, str] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else ():
            local, _, state, *rest = line.split()[1:]
            address, _, number = local.partition(":")
            command = owners.get(rest[5], "")
            if state == LISTENS and RAYS.search(command) and not _is_loopback(address):
                found[int(number, 16)] = command
    return tuple(Port(number=number, process=command) for number, command in sorted(found.items()))


def _owners() -> dict[str, str]:
    """The commands of this machine's processes by the sockets that they hold."""
    found: dict[str, str] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (
                process.joinpath("cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode(errors="replace")
                .strip()
            )
            for link in process.joinpath("fd").iterdir():
                target = os.readlink(link)
                if target.startswith("socket:["):
                    found[target[8:-1]] = command
        except OSError:  # it has ended, or is another user's
            continue
    return found


def _is_loopback(address: str) -> bool:
    """Of an address as the kernel writes it: words of 32 bits in this machine's order of bytes."""
    words = struct.pack(
        f"={len(address) // 8}I", *(int(address[at : at + 8], 16) for at in range(0, len(address), 8))
    )
    parsed = ipaddress.ip_address(words)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


class Answer(Settings):
    """What a port does for one who shows no credential."""

    kind: Literal["closed", "silent", "metrics", "open"]
    """It refuses him; it speaks neither HTTP nor gRPC; it tells metrics; it answers."""
    told: str = ""


def check(where: str, address: str, listening: Sequence[Port], *, stranger: bool) -> list[Finding]:
    """Whether the ports of a machine answer to this one where it shows no credential.

    Args:
        where: What the machine is called.
        address: Where it is reached.
        listening: Its ports.
        stranger: Whether this machine is none of the cluster's, so that metrics are not for it either.
    """
    with ThreadPoolExecutor(MAX_AT_ONCE) as pool:
        answers = list(pool.map(lambda port: knock(address, port.number), listening))
    told = list(zip(listening, answers, strict=True))
    opened = [(port, answer) for port, answer in told if answer.kind == "open"]
    metrics = [port for port, answer in told if answer.kind == "metrics"]
    found = [_opened(where, port, answer) for port, answer in opened]
    if metrics and stranger:
        seen = f"{_numbers(metrics)} tell metrics to whoever reaches them"
        found.append(Finding(check="ports", where=where, well=False, seen=seen, remedy=METRICS))
    if found:
        return found
    seen = f"none of {len(listening)} answers without a credential"
    if metrics:
        seen += f", but for metrics: {_numbers(metrics)}"
    if silent := [port for port, answer in told if answer.kind == "silent"]:
        seen += (
            f"; {len(silent)} speak neither HTTP nor gRPC: a training's, which know no credential, and are for a "
            f"firewall to close"
        )
    return [Finding(check="ports", where=where, well=True, seen=seen)]


def _opened(where: str, port: Port, answer: Answer) -> Finding:
    command = port.process if len(port.process) < SHOWN else f"{Path(port.process.split()[0]).name} …"
    seen = f"port {port.number} ({command}) answers without a credential: {answer.told}"
    remedy = (
        f"set RAY_AUTH_MODE=token before ray start, or let a firewall close {port.number} to all but the "
        f"cluster's machines"
    )
    return Finding(check="ports", where=where, well=False, seen=seen, remedy=remedy)


def _numbers(ports: Sequence[Port]) -> str:
    return f"port{'s' if len(ports) > 1 else ''} {', '.join(str(port.number) for port in ports)}"


def knock(address: str, port: int) -> Answer:
    """What a port does for one who shows nothing."""
    for speak in (_by_http, _by_tls, _by_grpc):
        if answer := speak(address, port):
            return answer
    return Answer(kind="silent")


def _by_http(address: str, port: int, context: ssl.SSLContext | None = None) -> Answer | None:
    for path in ASKED:
        if context:
            line = http.client.HTTPSConnection(address, port, timeout=TIMEOUT_S, context=context)
        else:
            line = http.client.HTTPConnection(address, port, timeout=TIMEOUT_S)
        try:
            line.request("GET", path)
            answer = line.getresponse()
            if answer.status < NO_SUCCESS:
                kind = "metrics" if answer.read(len(PROMETHEUS)) == PROMETHEUS else "open"
                return Answer(kind=kind, told=f"GET {path} gives {answer.status}")
        except ConnectionRefusedError:
            return Answer(kind="closed")
        except (OSError, http.client.HTTPException):
            return None
        finally:
            line.close()
    return Answer(kind="closed")


def _by_tls(address: str, port: int) -> Answer | None:
    """As by HTTP; Ray's own TLS says nothing to one who shows no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = (
        False,
        ssl.CERT_NONE,
    )  # it is sent nothing that is secret
    try:
        with socket.create_connection((address, port), TIMEOUT_S) as line:
            context.wrap_socket(line).close()
    except OSError:
        return None
    return _by_http(address, port, context) or Answer(kind="closed")


def _by_grpc(address: str, port: int) -> Answer | None:
    import grpc

    refusals = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED)
    channel: Any
    with grpc.insecure_channel(f"{address}:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=TIMEOUT_S)
        except grpc.FutureTimeoutError:
            return None
        for name in CALLED:
            try:
                channel.unary_unary(name)(b"", timeout=TIMEOUT_S)
                return Answer(kind="open", told=f"{name} gives OK")
            except grpc.RpcError as error:
                if error.code() not in refusals:
                    return Answer(kind="open", told=f"{name} gives {error.code().name}")
    return Answer(kind="closed")
