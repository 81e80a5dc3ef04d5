"""A cluster as it is looked at from a laptop, where it cannot be looked at whole."""

import email.utils
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import ray

from genloom_platform import certificates, profiles
from genloom_platform.doctor import laptop
from genloom_platform.doctor.findings import Port, Seen
from genloom_platform.jobs.client import Cluster

TOKEN = "t" * 32


class Head(HTTPServer):
    """A job server that tells its version, to whoever asks or only with the token, and takes no job."""

    def __init__(self, version=ray.__version__, open_to_all=False, ahead_s=0.0):
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                known = open_to_all or self.headers.get("Authorization") == f"Bearer {TOKEN}"
                told = [] if self.path == "/api/jobs/" else {"ray_version": version}
                body = json.dumps(told).encode()
                self.send_response(200 if known else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def date_time_string(self, timestamp=None):
                return email.utils.formatdate(time.time() + ahead_s, usegmt=True)

            def log_message(self, *words):
                pass

        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def looked_at(tmp_path, monkeypatch):
    """Look at a cluster whose profile has these lines; returns its wrong findings by their checks."""
    monkeypatch.setenv("LAB_OPENS", TOKEN)

    def look(text):
        path = tmp_path / "lab.yaml"
        path.write_text(text)
        with Cluster(profiles.load(str(path))) as cluster:
            report = laptop.examine(cluster)
        assert not report.well
        return {each.check: each for each in report.findings if not each.well}

    return look


@pytest.fixture
def head():
    """Make a job server."""
    made = []

    def make(**options):
        made.append(Head(**options))
        return made[
            -1
        ], f"address: http://127.0.0.1:{made[-1].server_port}\ntoken: {{env: LAB_OPENS}}\n"

    yield make
    for each in made:
        each.shutdown()


def test_a_token_that_is_missing_or_open_to_others_is_the_first_thing_told(looked_at, tmp_path):
    text = "address: http://127.0.0.1:9\ntoken: {file: token}"
    assert "put it there (chmod 600)" in str(looked_at(text)["token"])
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o640)
    (found,) = looked_at(text).values()
    assert found.check == "token"
    assert found.remedy.startswith("chmod 600")


def test_a_cluster_that_does_not_answer_is_told_with_the_remedy(looked_at):
    (found,) = looked_at("address: http://127.0.0.1:9\ntoken: {env: LAB_OPENS}").values()
    assert found.check == "reached"
    assert "does not answer at http://127.0.0.1:9" in found.seen
    assert "is it up?" in found.remedy


def test_another_ray_and_a_wrong_token_are_told(looked_at, head, monkeypatch):
    _, profile = head(version="2.31.0")
    found = looked_at(profile)["reached"]
    assert "runs Ray 2.31.0" in found.seen
    assert "pip install 'ray[default]==2.31.0'" in found.remedy
    monkeypatch.setenv("LAB_OPENS", "another" * 5)
    found = looked_at(head()[1])["reached"]
    assert "refuses the token of the environment's LAB_OPENS" in found.seen
    assert "whoever runs the cluster has the right one" in found.remedy


def test_a_job_server_that_answers_everyone_is_told(looked_at, head):
    found = looked_at(head(open_to_all=True)[1])
    assert "answers with no token (200) and a wrong token (200)" in found["ports"].seen
    assert "RAY_AUTH_MODE=token" in found["ports"].remedy
    assert "ports" not in looked_at(head()[1])


def test_a_clock_that_is_far_from_the_clusters_is_told(looked_at, head):
    found = looked_at(head(ahead_s=-3600)[1])["clock"]
    assert found.seen.endswith("s ahead of the cluster")
    assert float(found.seen.split()[0]) == pytest.approx(3600, abs=5)
    assert "clock" not in looked_at(head()[1])


def test_a_cluster_behind_tls_is_reached_by_its_authority(looked_at, head, tmp_path):
    made = tmp_path / "tls"
    certificates.make(made, ["127.0.0.1"])
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(made / "cert.pem", made / "key.pem")
    server, profile = head()
    server.socket = shown.wrap_socket(server.socket, server_side=True)
    profile = profile.replace("http:", "https:")
    assert "reached" not in looked_at(f"{profile}ca: tls/ca.pem\n")
    found = looked_at(profile)["reached"]
    assert "is not trusted here" in found.seen
    assert "as in ca: acme-ca.pem" in found.remedy
    for text in ("no certificate", None):
        if text:
            (tmp_path / "other.pem").write_text(text)
        else:
            (tmp_path / "other.pem").unlink()
        found = looked_at(f"{profile}ca: other.pem\n")["reached"]
        assert "other.pem of the profile lab cannot be read" in found.seen


def test_what_cannot_run_the_job_is_told_as_such(looked_at, head):
    (found,) = looked_at(head()[1]).values()
    assert found.check == "job"
    assert "did not take the job" in found.seen


def test_ports_that_this_machine_reaches_are_tried_from_here(head):
    server, _ = head(open_to_all=True)
    there = Port(number=server.server_port, process="/opt/ray/dashboard")
    gone = Port(number=9, process="/opt/ray/gone")
    seen = Seen(where="a", findings=(), address="127.0.0.1", ports=(gone, there))
    (found,) = laptop.from_outside(seen)
    assert not found.well
    assert f"port {server.server_port}" in found.seen
    (found,) = laptop.from_outside(seen.model_copy(update={"ports": (gone,)}))
    assert (found.well, found.seen) == (True, "none can be reached from here")
