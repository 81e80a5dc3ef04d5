"""Where the models answer that a job serves."""

import pytest

from genloom.errors import ClusterError, RequestError
from genloom_platform.jobs import handles, served
from genloom_platform.jobs.client import Cluster
from genloom_platform.jobs.job import Job, State


@pytest.mark.parametrize(("endpoint", "options", "found"), [
    ("http://127.0.0.1:8000", "--port=8000", "http://127.0.0.1:8000"),
    ("http://127.0.0.1:8000", "", "http://127.0.0.1:8000"),
    ("http://127.0.0.1:8000", "--port 8001", "http://127.0.0.1:8001"),
    ("http://[::1]:8000/", "--port=8001 --host 0.0.0.0", "http://[::1]:8001/"),
    ("http://127.0.0.1:8000", "--tls-cert=a.pem --tls-key=b.pem", "https://127.0.0.1:8000"),
    ("https://localhost:8443", "--port 8001", "http://localhost:8001"),
    ("https://localhost:8443", "--port 8001 --config a.yaml", "https://localhost:8001"),
    ("https://models.acme.com", "--port=8000 --tls-cert a.pem", "https://models.acme.com"),
    ("https://models.acme.com", "--port=8001", "serves at port 8001, and the endpoint of the profile lab"),
    ("http://10.0.0.5:8000", "--tls-cert=a.pem", "serves at TLS"),
    ("http://127.0.0.1:8000", "--host=10.0.0.5", "serves at 10.0.0.5"),
    (None, "", "does not say where its endpoints are reached"),
])  # fmt: skip
def test_a_served_model_is_asked_where_its_command_listens(lab, endpoint, options, found):
    profile = lab.model_copy(update={"endpoint": endpoint})
    if found.startswith("http"):
        assert served.address(profile, f"genloom serve a@2 {options}") == found
    else:
        with pytest.raises(RequestError, match=found):
            served.address(profile, f"genloom serve a@2 {options}")


def test_what_serves_and_does_not_answer_is_not_waited_for_without_end(lab, monkeypatch):
    running = State(
        id="shop", submission="shop", word="running", command="genloom serve a@2 --port 1", message="",
        exit_status=None, lost=False, started=1.0, ended=0.0, metadata={},
    )  # fmt: skip
    monkeypatch.setattr(Job, "state", lambda job: running)
    monkeypatch.setattr(Job, "logs", lambda job: iter(["serving a@2 at http://127.0.0.1:1\n"]))
    monkeypatch.setattr(handles, "ANSWERS_S", 0.1)
    there = Cluster(lab.model_copy(update={"endpoint": "http://127.0.0.1:8000"}))
    with pytest.raises(
        ClusterError, match=r"shop serves, and http://127.0.0.1:1 does not answer within"
    ):
        handles.RemoteEndpoint(Job(there, "shop")).wait()
