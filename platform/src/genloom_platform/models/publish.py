"""Publishing: released weights become a version, evaluated, with samples and a card that MLflow shows too."""

import tempfile
from pathlib import Path

from genloom_platform.models import card, samples
from genloom_platform.models.registry import Registry, Version
from genloom_platform.models.release import Release
from genloom_platform.store import Store

EVALUATION = "test/"
"""Before the names of an evaluation's metrics in the run, where those of training stand as well."""


def publish(
    store: Store, release: Release, tracking_id: str | None, *, evaluated: bool = True
) -> Version:
    """Register released weights; those that are registered already stay the version that they are.

    Args:
        store: Where they lie.
        release: Their description.
        tracking_id: Their run in MLflow.
        evaluated: Whether they are held against the dataset's test split, where it has one.
    """
    from genloom_platform.evaluate.evaluate import evaluate_release

    metrics = evaluate_release(store, release) if evaluated else {}
    samples.draw(store, release)
    registry = Registry(store)
    # A run whose process died after this point goes on here, and must not become a second version.
    known = [each for each in registry.versions(release.name) if each.place == release.path]
    version = known[0] if known else registry.register(release, metrics, tracking_id)
    card.write(store, version)
    if tracking_id:
        _show(registry, version, tracking_id)
    return version


def _show(registry: Registry, version: Version, tracking_id: str) -> None:
    """Put the metrics, the card and the samples where MLflow shows the run and the version."""
    client, store, place = registry.client, registry.store, version.place
    for name, value in version.metrics.items():
        client.log_metric(tracking_id, EVALUATION + name, float(value), step=version.release.step)
    drawn = samples.read(store, place)
    files = [card.HTML, *([drawn.sheet] if drawn.sheet else [each.file for each in drawn.examples])]
    with tempfile.TemporaryDirectory(prefix="genloom-shown-") as scratch:
        for file in files:
            local = Path(scratch) / Path(file).name
            store.download(f"{place}/{file}", local)
            client.log_artifact(tracking_id, str(local), "model")
    summary = card.read(store, version).split("\n\n")[1]
    about = f"{summary}\n\nIts card, `{card.HTML}`, is among the artifacts of its run, in `model`."
    client.update_model_version(version.name, str(version.number), description=about)
