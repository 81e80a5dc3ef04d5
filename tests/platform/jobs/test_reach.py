"""How a cluster is reached: by which tool, and what is told where it fails."""

import re
import sys

import pytest

from genloom.errors import ClusterError, RequestError
from genloom_platform import profiles
from genloom_platform.jobs.reach import last_words, reach, tunnel


def test_a_cluster_is_reached_by_the_tool_that_started_it(home):
    for text, words in (
        ("address: ssh://me@head:2222", "ssh -N .*-p 2222 -L 127.0.0.1:99:127.0.0.1:8265 -- me@head"),
        ("launch: {kind: ray, file: r.yaml}", "ray dashboard --port 99 --remote-port 8265 .*r.yaml"),
        (
            "launch: {kind: kuberay, manifests: k, cluster: g, namespace: n, context: c}",
            "kubectl --context c --namespace n port-forward .* service/g-head-svc 99:8265",
        ),
    ):
        (home / "clusters" / "it.yaml").write_text(text)
        assert re.fullmatch(words, " ".join(tunnel(profiles.load("it"), 99)))
    (home / "clusters" / "it.yaml").write_text("store: s3://a/b")
    with pytest.raises(RequestError, match="does not say how the cluster is reached"):
        tunnel(profiles.load("it"), 99)


def test_a_tool_beside_this_python_need_not_be_on_the_path(home, tmp_path, monkeypatch):
    (home / "clusters" / "it.yaml").write_text("launch: {kind: ray, file: r.yaml}")
    (home / "clusters" / "far.yaml").write_text("address: ssh://me@head")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ray").write_text("#!/bin/sh\necho first line\necho no such file: $6\nexit 1\n")
    (tmp_path / "bin" / "ray").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    with (
        pytest.raises(ClusterError, match=r"cluster it: first line no such file: .*/r.yaml; tried"),
        reach(profiles.load("it")),
    ):
        pass
    with (
        pytest.raises(RequestError, match="by ssh, which is not installed"),
        reach(profiles.load("far")),
    ):
        pass


def test_of_what_a_tool_said_whole_lines_are_told():
    assert last_words("one\n  two  three\n\n") == "one two three"
    assert last_words("first " * 20 + "\nsecond line\nthird", 30) == "second line third"
    assert last_words("word " * 20, 12) == "… word word"
