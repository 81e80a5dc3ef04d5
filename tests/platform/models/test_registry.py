"""Versions: what is known of them, and a registry that cannot be opened."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

import genloom
from genloom import registry as plugins
from genloom.errors import PluginError, RequestError, StoreError, UnknownName
from genloom_platform.evaluate.measured import Measured
from genloom_platform.models import aliases, database, loading, record
from genloom_platform.models.recover import recover
from genloom_platform.models.registry import Registry
from genloom_platform.store import Store


def database_of(store):
    return Path(store.folder) / "mlflow.db"


def test_metrics_keep_their_intervals_and_lose_them_when_measured_without(versions, store):
    registry = Registry(store)
    version = registry.set_metrics(versions.make(), {"accuracy": Measured(0.9, 0.8, 0.95, "20 rows")})
    assert version.metrics["accuracy"] == 0.9
    assert version.metrics["accuracy"].on == "20 rows"
    assert registry.find("image-classifier@1").metrics["accuracy"].high == 0.95
    plain = registry.set_metrics(version, {"accuracy": 0.7}).metrics["accuracy"]
    assert (plain, isinstance(plain, Measured)) == (0.7, False)


def test_a_version_is_found_by_number_alias_or_as_the_newest(versions, store):
    for _ in range(2):
        versions.make()
    aliases.promote(store, "image-classifier@1")
    registry = Registry(store)
    assert registry.find("image-classifier").number == 2
    assert registry.find("image-classifier@champion").number == 1
    with pytest.raises(UnknownName, match="there are 1, 2, champion"):
        registry.find("image-classifier@7")
    with pytest.raises(UnknownName, match="did you mean 'image-classifier'"):
        registry.find("image-clasifier@1")
    with pytest.raises(UnknownName, match="there is no model"):
        registry.find("../x'; drop table")


def test_weights_that_the_installed_plugin_has_no_network_for_are_told_with_what_to_install(
    versions, store, monkeypatch
):
    versions.make()
    kind = plugins.load("image-classifier")
    build = kind.build

    def newer(self, data):
        module = build(self, data)
        module.extra = nn.Linear(2, 2)
        return module

    monkeypatch.setattr(kind, "build", newer)
    with pytest.raises(PluginError, match=r"do not fit .*extra.*pip install genloom-image==") as told:
        loading.load(store, "image-classifier")
    assert len(str(told.value)) < 700


def test_tags_are_written_and_taken_away(versions, store):
    registry = Registry(store)
    version = registry.tag(versions.make(), {"team": "vision", "reviewed": "yes"})
    assert version.tags == {"team": "vision", "reviewed": "yes"}
    assert registry.tag(version, {}, ("reviewed",)).tags == {"team": "vision"}
    with pytest.raises(UnknownName, match="did you mean 'team'"):
        registry.tag(registry.find("image-classifier"), {}, ("tem",))
    for key in ("place", "metric.accuracy", "mlflow.source", "1st", "a b"):
        with pytest.raises(RequestError, match="is no tag"):
            registry.tag(version, {key: "x"})


def test_a_model_of_someone_else_in_the_same_database_is_passed_over(versions, store):
    versions.make()
    client = Registry(store).client
    client.create_registered_model("theirs")
    client.create_model_version("theirs", source="somewhere")
    assert Registry(store).names() == ["image-classifier"]


def test_a_lost_registry_is_told_and_made_anew_with_its_numbers_metrics_tags_and_aliases(
    versions, store, tmp_path
):
    registry = Registry(store)
    made = [versions.make() for _ in range(3)]
    registry.set_metrics(made[0], {"accuracy": Measured(0.9, 0.8, 0.95, "20 rows")})
    registry.tag(made[2], {"team": "vision"})
    aliases.promote(store, "image-classifier@3")
    registry.client.delete_model_version("image-classifier", "2")
    store.delete(made[1].place)
    # Moved: this process still holds the database that is lost.
    shutil.copytree(store.folder, tmp_path / "moved", ignore=shutil.ignore_patterns("mlflow.db"))
    store = Store((tmp_path / "moved").as_uri())
    with pytest.raises(StoreError, match=r"is gone.*2 released models.*models recover"):
        Registry(store).names()
    assert not database_of(store).exists()
    assert [version.number for version in recover(store)] == [1, 3]
    versions_now = {version.number: version for version in Registry(store).versions()}
    assert list(versions_now) == [3, 1]
    assert versions_now[1].metrics["accuracy"].high == 0.95
    assert versions_now[3].tags == {"team": "vision"}
    assert versions_now[3].aliases == ("champion",)
    assert recover(store) == []


def test_a_release_that_was_never_registered_is_recovered(versions, store):
    version = versions.make()
    store.remove(f"{version.place}/{record.FILE}")
    Registry(store).client.delete_model_version("image-classifier", "1")
    assert [each.full_name for each in recover(store)] == ["image-classifier@2"]


def test_a_locked_registry_is_told(store, monkeypatch):
    monkeypatch.setattr(database, "LOCKED_S", 0.2)
    holder = sqlite3.connect(database_of(store), isolation_level=None)
    holder.execute("begin exclusive")
    with pytest.raises(StoreError, match="locked by another process"):
        Registry(store).names()
    holder.close()
    assert Registry(store).names() == []


@pytest.mark.parametrize(
    ("revision", "signed", "remedy"),
    [
        ("ffffffffffff", "4.1.0", r'newer MLflow.*pip install "mlflow==4.1.0"'),
        ("ffffffffffff", None, "newer MLflow.*pip install --upgrade mlflow"),
        ("451aebb31d03", None, "older MLflow.*mlflow db upgrade"),
    ],
)
def test_a_registry_of_another_mlflow_says_what_to_do_and_is_left_alone(
    store, revision, signed, remedy
):
    with sqlite3.connect(database_of(store)) as connection:
        connection.execute("update alembic_version set version_num = ?", (revision,))
    if signed:
        database_of(store).with_suffix(".json").write_text(f'{{"mlflow": "{signed}"}}')
    before = database_of(store).read_bytes()
    with pytest.raises(StoreError, match=remedy):
        Registry(store).names()
    assert database_of(store).read_bytes() == before


def test_what_is_no_database_is_told_at_once(store):
    database_of(store).write_text("no database " * 100)
    with pytest.raises(StoreError, match="not a database"):
        Registry(store).names()


def test_a_server_that_is_gone_is_told(store, monkeypatch):
    monkeypatch.setenv("GENLOOM_TRACKING", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StoreError, match="does not answer") as told:
        Registry(store).names()
    assert "secret" not in str(told.value)


def test_a_deleted_experiment_is_told_with_its_remedy(store):
    registry = Registry(store)
    registry.client.delete_experiment(registry.experiment())
    with pytest.raises(StoreError, match="mlflow experiments restore"):
        registry.experiment()


def test_samples_that_a_version_makes_here_tell_what_makes_them_again(versions, store):
    version = versions.make("image-vae")
    model = genloom.connect(store.url).models["image-vae"]
    samples = model.generate(label=3, count=2, seed=5)
    assert (samples.seeds, samples.model) == ((5, 6), version.full_name)
    assert model.generate([{"label": 3, "seed": 6}]) == samples[1:]
    with pytest.raises(RequestError, match="leave label out"):
        model.generate([{}], label=3)


def test_a_registry_whose_writer_was_killed_in_the_middle_is_as_before(versions):
    made = versions.make()
    file = database_of(versions.store)
    writing = f"""
import os, signal, sqlite3
database = sqlite3.connect({str(file)!r})
database.execute("pragma cache_size = 1")
database.execute("begin")
database.execute("create table half (x)")
database.executemany("insert into half values (?)", [("x" * 2000,)] * 500)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", writing])
    assert file.with_name("mlflow.db-journal").stat().st_size
    assert [version.full_name for version in Registry(versions.store).versions()] == [made.full_name]
