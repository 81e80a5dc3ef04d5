"""A cluster whose machines speak TLS with each other, by certificates that Genloom makes."""

import sys

import netns
import pytest

from genloom_platform import certificates

pytestmark = pytest.mark.hosts
SCRIPT = """
import ray
ray.init(log_to_driver=False)
nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]

@ray.remote(num_cpus=1)
def where(block):
    return ray.util.get_node_ip_address(), len(block)

pinned = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
block = ray.put(b"x" * (8 << 20))  # it goes from machine to machine
found = ray.get([where.options(scheduling_strategy=pinned(node, soft=False)).remote(block) for node in nodes])
print(*sorted(f"{place}:{size}" for place, size in found))
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    """Two machines of a cluster, and one that is none of it."""
    reason = netns.unavailable()
    if reason:
        pytest.skip(reason)
    made = tmp_path_factory.mktemp("tls")
    with netns.Hosts(3) as hosts:
        certificates.make(made, [hosts[0].address, hosts[1].address])
        hosts.environment |= {
            "RAY_USE_TLS": "1",
            "RAY_TLS_CA_CERT": str(made / "ca.pem"),
            "RAY_TLS_SERVER_CERT": str(made / "cert.pem"),
            "RAY_TLS_SERVER_KEY": str(made / "key.pem"),
        }
        for host in (hosts[0], hosts[1]):
            host.start_ray(1)
        yield hosts


def test_work_and_data_go_from_machine_to_machine_by_tls(hosts):
    status, output = hosts[0].run([sys.executable, "-c", SCRIPT], RAY_ADDRESS=hosts.address)
    assert status == 0, output
    assert output.split()[-2:] == [f"{hosts[number].address}:{8 << 20}" for number in (0, 1)]


def test_a_machine_without_a_certificate_gets_no_word_out_of_the_cluster(hosts):
    code = (
        "import socket, ssl, sys; context = ssl._create_unverified_context(); "
        "line = context.wrap_socket(socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)); "
        "line.send(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n'); print('told', line.recv(9))"
    )
    argv = [sys.executable, "-c", code, hosts[0].address, netns.PORT]
    _, output = hosts[2].run(argv)
    assert "ssl.SSLError" in output or "ConnectionResetError" in output or output == "told b''\n", (
        output
    )
    # With the token alone it comes no further.
    status, output = hosts[2].run(
        [sys.executable, "-c", "import ray; ray.init(log_to_driver=False)"],
        RAY_ADDRESS=hosts.address, RAY_USE_TLS="0",
        RAY_NUM_REDIS_GET_RETRIES="1", RAY_py_gcs_connect_timeout_s="5",
    )  # fmt: skip
    assert status != 0, output
    assert "Failed to connect to GCS" in output
