"""Knocking at ports, as a stranger would: every method of HTTP and of Ray's gRPC, with a token or without.

Run as a program within a host's namespace, it reads what to knock at from its input, and prints what came.
"""

import http.client
import importlib
import json
import pkgutil
import socket
import sys

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
PATHS = (
    "/", "/api/version", "/api/jobs/", "/api/cluster_status", "/api/v0/nodes", "/nodes?view=summary", "/logs",
    "/api/serve/applications/", "/metrics", "/api/healthz", "/api/gcs_healthz", "/api/local_raylet_healthz",
    "/-/healthz", "/-/routes", "/healthz", "/v1/models", "/v1/generate", "/docs", "/openapi.json", "/test",
    "/api/job_agent/jobs/", "/get_or_create_runtime_env", "/delete_runtime_env_if_possible", "/worker/traceback",
    "/api/packages/protocol/gcs/package.zip",
)  # fmt: skip
TELLING = ("/grpc.health.v1.Health/Check", "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
"""What changes nothing; it is all that is asked with the right token."""
NOT_IN_PYTHON = ("/ray.rpc.ObjectManagerService/Pull", "/ray.rpc.ObjectManagerService/Push", TELLING[0])
TIMEOUT_S = 5


def grpc_methods():
    """Every method of Ray's gRPC services, and health."""
    import ray.core.generated as generated

    found = set()
    for module in pkgutil.iter_modules(generated.__path__):
        if module.name.endswith("_pb2"):
            descriptor = importlib.import_module(f"{generated.__name__}.{module.name}").DESCRIPTOR
            for service in descriptor.services_by_name.values():
                found |= {f"/{service.full_name}/{method.name}" for method in service.methods}
    return sorted(found | set(NOT_IN_PYTHON))


def knock_http(address, port, token, methods):
    """`METHOD path` → status and text, for all that answers by HTTP/1.1; none where it speaks another tongue."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    found = {}
    for path in PATHS:
        for method in methods:
            line = http.client.HTTPConnection(address, port, timeout=TIMEOUT_S)
            try:
                line.request(method, path, headers=headers)
                answer = line.getresponse()
                found[f"{method} {path}"] = [answer.status, answer.read(200).decode(errors="replace")]
            except (OSError, http.client.HTTPException):
                if not found:
                    return {}
                found[f"{method} {path}"] = [0, ""]
            finally:
                line.close()
    return found


def knock_grpc(address, port, token, methods):
    """`/service/method` → status, for all that answers by gRPC; none where it speaks another tongue."""
    import grpc

    metadata = [("authorization", f"Bearer {token}")] if token else []
    found = {}
    with grpc.insecure_channel(f"{address}:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=2)
        except grpc.FutureTimeoutError:
            return {}
        for name in methods:
            call = channel.unary_unary(name)  # what is no bytes is not made into any
            try:
                call(b"", metadata=metadata, timeout=TIMEOUT_S)
                found[name] = "OK"
            except grpc.RpcError as error:
                found[name] = error.code().name
    return found


def knock(address, port, token, gently):
    """All that a port answers, whether it can be reached at all; gently, only what changes nothing is asked."""
    with socket.socket() as probe:
        probe.settimeout(TIMEOUT_S)
        if probe.connect_ex((address, port)):
            return {"reached": False, "http": {}, "grpc": {}}
    spoken = knock_http(address, port, token, ("GET", "HEAD") if gently else METHODS)
    called = () if spoken else knock_grpc(address, port, token, TELLING if gently else grpc_methods())
    return {"reached": True, "http": spoken, "grpc": dict(called)}


def main():
    asked = json.load(sys.stdin)
    print(json.dumps([knock(*each) for each in asked]))


if __name__ == "__main__":
    main()
