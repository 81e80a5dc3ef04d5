"""A cluster in team code: which commands its words become."""

import tomllib

import pytest

import genloom
from genloom.errors import ClusterError, RequestError, UnknownName
from genloom_platform.jobs import remote, submit
from genloom_platform.jobs.job import Job


@pytest.fixture
def sent(lab, monkeypatch):
    """The words of every command that team code sends to the cluster, and the files that go along."""
    commands = []

    def keep(cluster, words, *, id, plugin, folder):
        commands.append((words, {path.name: path.read_text() for path in folder.glob("*.yaml")}))
        return Job(cluster, id or "made")

    monkeypatch.setattr(submit, "submit", keep)
    return commands


def test_options_of_team_code_are_written_as_the_command_reads_them(sent):
    remote.Remote("lab").serve(
        "image-vae@2", name="s2", port=8000, compile=True, status=False, cors=["a", "b"], canary=None
    )
    ((words, _),) = sent
    assert words == ["serve", "image-vae@2", "--port=8000", "--compile", "--cors=a", "--cors=b"]


def test_a_sweep_is_a_file_by_its_path_too(sent, home):
    (home / "rates.yaml").write_text("metric: loss\n")
    lab = remote.Remote("lab")
    for source in ("rates.yaml", home / "rates.yaml"):
        assert lab.sweep(source, trials=3).name == "rates"
    assert sent[0] == sent[1]
    assert sent[0][1] == {"rates.yaml": "metric: loss\ntrials: 3\n"}


def test_team_code_names_a_cluster_by_its_profile(home, lab, root, monkeypatch):
    # What this tree says of itself, before what is installed says it.
    told = tomllib.loads((root / "platform" / "pyproject.toml").read_text())["project"]
    info = home / "genloom_platform-9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: genloom-platform\nVersion: 9\n")
    lines = [f"{name} = {at}" for name, at in told["entry-points"]["genloom.platforms"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[genloom.platforms]", *lines]))
    monkeypatch.syspath_prepend(home)
    with pytest.raises(UnknownName, match="did you mean 'lab'"):
        genloom.connect("lap")
    with pytest.raises(ClusterError, match="does not answer"):
        genloom.connect("lab").train("image-vae", data="digits", workers=2, schedule__name="cosine")
    with pytest.raises(RequestError, match="travels to a cluster"):
        genloom.connect(plugin=".")
