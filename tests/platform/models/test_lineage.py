"""From an endpoint's answer down to the file that the data came from, and where something on the way is gone."""

import json
import socket

import pytest
import registering
from PIL import Image
from sklearn.datasets import load_digits

import genloom
from genloom_platform.config import read_values, resolve
from genloom_platform.data.derive import clean
from genloom_platform.data.imports import import_dataset
from genloom_platform.models.lineage import lineage
from genloom_platform.models.registry import Registry
from genloom_platform.serve import launch as serving
from genloom_platform.serve import presence
from genloom_platform.serve.app import create_app
from genloom_platform.serve.model import served
from genloom_platform.serve.presence import Announcement
from genloom_platform.store import Store
from genloom_platform.sweep import launch as sweeps
from genloom_platform.train import checkpoint, launch, runs

STEPS = 4


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of pictures by class."""
    folder = tmp_path_factory.mktemp("photos")
    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images[:120], digits.target, strict=False)):
        (folder / str(label)).mkdir(exist_ok=True)
        Image.fromarray((pixels * 15).astype("uint8")).save(folder / str(label) / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def trained(photos, digits_and_registry, tmp_path_factory, ray_cluster):
    """A store with a model that was trained on a cleaned dataset of those pictures."""
    import shutil

    folder = tmp_path_factory.mktemp("lineage") / "store"
    shutil.copytree(digits_and_registry, folder)
    store = Store(folder.as_uri())
    import_dataset(store, "imagefolder", str(photos), "photos", {})
    clean(store, "photos", "clean", {"clean": {"exact_duplicates": True}})
    words = [f"steps={STEPS}", "data=clean", "global_batch=16", "model=namer"]
    launch.train(store, resolve(read_values("image-classifier", words), store))
    return store


def version(store):
    return Registry(store).find("namer@1")


def names(node):
    """The chain of kinds and names along the first origins."""
    chain = [(node.kind, node.name)]
    return chain + (names(node.origins[0]) if node.origins else [])


def test_a_model_leads_to_the_files_that_its_data_came_from(trained, photos):
    made = genloom.connect(trained.url).models["namer@1"].lineage
    run = version(trained).run
    kinds = names(made)
    assert [kind for kind, _ in kinds] == ["model", "run", "checkpoint", "dataset", "dataset", "source"]
    named = dict(zip([kind for kind, _ in kinds], [name for _, name in kinds], strict=True))
    assert named["model"] == "namer@1"
    assert named["run"] == run
    assert named["checkpoint"] == f"{run} step {STEPS}"
    assert [name.partition("@")[0] for kind, name in kinds if kind == "dataset"] == ["clean", "photos"]
    assert named["source"] == str(photos)
    assert [node.gone for node in made.walk()] == [""] * 6
    (dataset, parent) = made.of_kind("dataset")
    assert dataset.facts["digest"] == version(trained).release.dataset_digest
    assert parent.facts["rows"]
    assert made.facts["package"] == "genloom-image 1.0.0"


def test_an_answer_of_an_endpoint_leads_there_too(trained):
    """`/v1/models` names version and run; the store knows which endpoints serve it."""
    from fastapi.testclient import TestClient

    found = version(trained)
    loaded = genloom.connect(trained.url).models["namer@1"].loaded

    class Backend:
        def models(self):
            return [served(loaded, 0, found.run).card()]

    client = TestClient(create_app(Backend()), base_url="http://127.0.0.1:8000")
    (entry,) = client.get("/v1/models").json()["data"]
    assert runs.find(trained, entry["run"]).name == found.run
    made = genloom.connect(trained.url).models[f"{entry['id']}@{entry['version']}"]
    renewing = presence.announce(
        Announcement(store=trained.url, url="http://127.0.0.1:8000", models=(made.name,))
    )
    registering.await_file(trained, "endpoints/*.json")
    (endpoint,) = made.endpoints
    assert names(endpoint)[:2] == [("endpoint", "http://127.0.0.1:8000"), ("model", "namer@1")]
    assert names(endpoint)[-1][0] == "source"
    renewing.end()
    trained.delete("endpoints")


def test_the_command_shows_the_tree_and_gives_it_as_json(trained, photos, genloom_command):
    shown = genloom_command("models", "show", "namer", "--lineage", store=trained.url)
    assert "source " in shown.stdout
    assert shown.stdout.index("checkpoint") < shown.stdout.index("dataset clean@")
    done = genloom_command("models", "show", "namer", "--lineage", "--json", store=trained.url)
    (node,) = json.loads(done.stdout)
    while node["origins"]:
        node = node["origins"][0]
    assert node["name"] == str(photos)


@pytest.fixture(scope="module")
def tuned(trained):
    """The best of a sweep over finetunes of that model."""
    values = {
        "run": {
            "finetune": {"model": "namer@1", "lora": {"rank": 2}},
            "data": "clean", "steps": STEPS, "global_batch": 16, "evaluate": False, "validation": {"share": 0.2},
        },
        "space": {"optimizer.lr": {"log_range": [1e-4, 1e-2]}, "finetune.lora.rank": {"choice": [1, 2]}},
        "metric": "validation/loss", "mode": "min", "trials": 2, "every": 2,
    }  # fmt: skip
    done = sweeps.sweep(trained, values, "ranks")
    assert [trial.state for trial in done.trials] == ["finished", "finished"], done.trials
    (best,) = done.best
    return best


def test_a_served_finetuned_model_of_a_sweep_leads_to_the_files(trained, photos, tuned):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = serving.start(trained.url, [tuned.model], "127.0.0.1", port)
    try:
        picture = genloom.Image.from_bytes(next(photos.glob("*/*.png")).read_bytes())
        (answer,) = genloom.connect(url).models[tuned.model.partition("@")[0]].predict(image=picture)
        assert answer.kind == "label"
        registering.await_file(trained, "endpoints/*.json")
        (endpoint,) = genloom.connect(trained.url).models[tuned.model].endpoints
    finally:
        serving.stop()
    assert (endpoint.kind, endpoint.name) == ("endpoint", url)
    (model,) = endpoint.origins
    assert model.name == tuned.model
    assert [(each.kind, each.name) for each in model.origins] == [
        ("run", tuned.run),
        ("model", "namer@1"),
    ]
    (sweep,) = model.of_kind("sweep")
    assert (sweep.name, sweep.gone) == ("ranks", "")
    # The dataset is followed once, where it is met first.
    assert [node.facts.get("see") for node in model.of_kind("dataset")] == [None, None, "above"]
    assert [node.name for node in model.of_kind("source")] == [str(photos)]
    assert [node.gone for node in endpoint.walk() if node.kind != "checkpoint"] == [""] * (
        len(list(endpoint.walk())) - len(endpoint.of_kind("checkpoint"))
    )


def test_what_is_gone_says_so_in_its_place(trained, photos):
    """Pruned, deleted, moved away: last, for it takes the store apart."""
    found = version(trained)
    trained.delete(checkpoint.place(found.run, STEPS))
    made = lineage(trained, found)
    assert "pruned" in made.of_kind("checkpoint")[0].gone
    trained.delete(f"runs/{found.run}")
    photos.rename(photos.with_name("moved"))
    made = lineage(trained, found)
    assert made.of_kind("run")[0].gone == "its record was deleted"
    assert "not there any more" in made.of_kind("source")[0].gone
    assert names(made)[-1] == ("source", str(photos))
    parent = made.of_kind("dataset")[1].name
    trained.remove(f"datasets/photos/{parent.partition('@')[2]}.json")
    made = lineage(trained, found)
    assert [node.gone for node in made.of_kind("dataset")] == ["", "was deleted"]
    trained.delete(found.place)
    made = lineage(trained, version(trained))
    assert "are missing" in made.gone
    assert [node.kind for node in made.walk()] == ["model", "run", "dataset", "dataset"]
