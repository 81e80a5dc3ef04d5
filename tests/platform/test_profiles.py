"""Profiles of clusters: found by name or path, checked whole."""

import pytest

from genloom.errors import InvalidConfig, RequestError, UnknownName
from genloom_platform import profiles
from genloom_platform.profiles import Price


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A working folder and a home, each with a folder for profiles; GENLOOM_CLUSTER is not set."""
    work, home = tmp_path / "work" / "clusters", tmp_path / "home" / ".genloom" / "clusters"
    work.mkdir(parents=True)
    home.mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GENLOOM_CLUSTER", raising=False)
    return work, home


def test_a_profile_is_found_by_its_name_here_before_home_and_by_its_path(folders, monkeypatch):
    work, home = folders
    (home / "lab.yaml").write_text("price_per_hour: {amount: 1, currency: EUR}")
    (home / "cloud.yaml").write_text("price_per_hour: {amount: 3}")
    (work / "lab.yaml").write_text("price_per_hour: {amount: 2.5, currency: EUR}")
    assert profiles.chosen() is None
    monkeypatch.setenv("GENLOOM_CLUSTER", "lab")
    assert profiles.chosen().price_per_hour == Price(amount=2.5, currency="EUR")
    assert str(profiles.load("cloud").price_per_hour.times(1000)) == "3,000.00 USD"
    assert profiles.load(str(home / "lab.yaml")).price_per_hour.amount == 1


def test_this_machine_has_a_profile_wherever_one_is(folders):
    work, _ = folders
    assert profiles.load("local").launch.kind == "machine"
    (work / "local.yaml").write_text("address: https://ray.acme.com")
    assert profiles.load("local").launch is None


def test_a_wrong_profile_says_what_is_wrong(folders):
    work, _ = folders
    (work / "lab.yaml").write_text("price_per_hour: {amount: -1, currency: euro}\nprice: 3\n")
    with pytest.raises(UnknownName, match="did you mean 'lab'"):
        profiles.load("lap")
    with pytest.raises(RequestError, match="cannot read"):
        profiles.load("clusters/lap.yaml")
    with pytest.raises(InvalidConfig, match="3 errors") as error:
        profiles.load("lab")
    for message in ("price = 3: there is no such key", "price_per_hour.amount = -1", "currency"):
        assert message in str(error.value)
