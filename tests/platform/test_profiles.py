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


@pytest.mark.parametrize("text", [
    "address: https://me:hidden@ray.acme.com", "address: ssh://me:hidden@head", "store: s3://me:hidden@bucket/team",
    "tracking: http://me:hidden@mlflow.acme.com:5000", "endpoint: https://me:hid/hidden@models.acme.com",
    "tracking: postgresql://me@acme.com:hidden@db/mlflow", "environment: {PROXY: 'http://me:hidden@proxy:3128'}",
    "trakking: http://me:hidden@mlflow", "environment: {HF_TOKEN: hidden}",
    "environment: {DB_PASSWORD: [hidden]}",
])  # fmt: skip
def test_a_password_is_refused_and_not_shown(folders, text):
    (folders[0] / "lab.yaml").write_text(text)
    with pytest.raises(InvalidConfig) as error:
        profiles.load("lab")
    assert "hidden" not in str(error.value)
    assert error.value.__cause__ is None
    if "//" in text and "environment" not in text:
        assert ":…@" in str(error.value)


def test_an_address_without_a_password_may_have_a_user_and_a_port(folders):
    (folders[0] / "lab.yaml").write_text(
        "address: ssh://me@head:2222\nstore: s3://bucket/me@acme\ntracking: http://[::1]:5000/me@acme\n"
        "endpoint: https://models.acme.com:8443/a@b\n"
        "environment: {HTTPS_PROXY: 'http://proxy:3128', AT: 'http://a:1,http://me@b:2/x@y'}"
    )
    assert profiles.load("lab").environment["HTTPS_PROXY"] == "http://proxy:3128"


@pytest.mark.parametrize("name", [
    "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "HF_TOKEN", "GITHUBTOKEN", "HF_TOKEN2", "API_KEY", "APIKEY",
    "PGPASS", "PGPASSWORD", "DB_PWD", "MYSQL_PWD", "SMTP_PASS", "SSH_PASSPHRASE", "CREDENTIALS", "db_password",
    "AUTH_TOKENS", "KEY",
])  # fmt: skip
def test_a_secret_is_known_by_its_name(name):
    assert profiles.is_secret(name)


@pytest.mark.parametrize("name", [
    "TOKENIZERS_PARALLELISM", "MAX_TOKENS", "NUM_PASSES", "KEYBOARD", "BYPASS", "PWD", "OLDPWD", "HF_TOKEN_PATH",
    "AWS_SHARED_CREDENTIALS_FILE", "RAY_TLS_SERVER_KEY", "AWS_REGION",
])  # fmt: skip
def test_what_only_sounds_like_a_secret_is_none(name):
    assert not profiles.is_secret(name)


@pytest.mark.parametrize(
    "variable", ["RAY_AUTH_MODE: disabled", "RAY_USE_TLS: '0'", "RAY_TLS_CA_CERT: a"]
)
def test_a_profile_does_not_open_ray(folders, variable):
    (folders[0] / "lab.yaml").write_text(f"environment: {{{variable}}}")
    name, _, value = variable.replace("'", "").partition(": ")
    with pytest.raises(InvalidConfig, match=f"holds {name}={value}, .*; leave it out"):
        profiles.load("lab")


def test_a_token_in_a_profile_is_refused_and_not_shown(folders):
    (folders[0] / "lab.yaml").write_text("environment: {RAY_AUTH_TOKEN: hunter2}")
    with pytest.raises(InvalidConfig, match="RAY_AUTH_TOKEN") as error:
        profiles.load("lab")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(("address", "words"), [
    ("https://ray.acme.com:99999", "99999': is no URL .*0-65535.*; give https://host"),
    ("https://ray.acme.com:web", "is no URL"),
    ("https://ray.acme.com:0", "has the port 0"),
])  # fmt: skip
def test_an_address_has_a_port_that_there_is(folders, address, words):
    (folders[0] / "lab.yaml").write_text(f"address: {address}")
    with pytest.raises(InvalidConfig, match=words):
        profiles.load("lab")


def test_a_profile_that_is_no_text_is_told_and_the_others_are_listed(folders):
    from typer.testing import CliRunner

    from genloom_platform.cli.app import app

    (folders[0] / "lab.yaml").write_bytes(b"store: s3://\xe9\xff")
    with pytest.raises(RequestError, match=r"lab.yaml is no text in UTF-8 .*; save it as that"):
        profiles.load("lab")
    done = CliRunner().invoke(app, ["cluster", "list"])
    assert done.exit_code == 0
    assert "local" in done.output


def test_a_cluster_is_shown_that_the_environment_names(folders, monkeypatch):
    from typer.testing import CliRunner

    from genloom_platform.cli.app import app

    (folders[0] / "lab.yaml").write_text("store: s3://acme/team")
    assert CliRunner().invoke(app, ["cluster", "show"]).exit_code == 2
    monkeypatch.setenv("GENLOOM_CLUSTER", "lab")
    assert "s3://acme/team" in CliRunner().invoke(app, ["cluster", "show"]).output
