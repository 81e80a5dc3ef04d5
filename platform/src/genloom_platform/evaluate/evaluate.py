"""Evaluation: a registered model, or released weights, in numbers; one file for each kind of metric."""

from collections.abc import Iterator
from typing import Any

import genloom
from genloom.errors import RequestError
from genloom_platform.data import encoding, shards
from genloom_platform.data import manifest as manifests
from genloom_platform.data.manifest import Manifest
from genloom_platform.data.stream import prepare, stack, to_batch
from genloom_platform.models import release as releases
from genloom_platform.models.loading import load_version
from genloom_platform.models.registry import Registry, Version
from genloom_platform.models.release import Release
from genloom_platform.store import Store

BATCH_ROWS = 128


def evaluate(
    store: Store,
    reference: str,
    *,
    data: str | None = None,
    split: str = "test",
    judge: str | None = None,
    count: int = 1000,
) -> tuple[Version, dict[str, float]]:
    """Evaluate a registered model and record what it gave with the version.

    Args:
        store: Where the model and the dataset live.
        reference: The model.
        data: The dataset; the one that the model was trained on where None.
        split: The split that is held against it.
        judge: A registered predictor that recognises the samples of a conditional generator.
        count: How many samples are drawn for the judge.

    Returns:
        The version, and its metrics by name: numbers that carry their intervals (`measured.py`).

    Raises:
        RequestError: Something that was named does not exist or fit, or nothing can be measured.
    """
    from genloom_platform.models import card

    version = Registry(store).find(reference)
    if data or split != "test":
        manifests.load(store, data or version.release.dataset).shards_of(split)
    metrics = evaluate_release(store, version.release, data=data, split=split)
    if judge:
        from genloom_platform.evaluate.recognised import recognised

        metrics |= recognised(load_version(store, version), _predictor(store, judge), count)
    if not metrics:
        raise RequestError(
            f"{version.full_name} has no metric on its own: it gives no likelihood; name a registered "
            f"predictor that recognises its samples, as in --judge image-classifier"
        )
    version = Registry(store).set_metrics(version, metrics)
    card.write(store, version)
    return version, metrics


def evaluate_release(
    store: Store, release: Release, *, data: str | None = None, split: str = "test"
) -> dict[str, float]:
    """The metrics that released weights have without a judge; none where the split is missing.

    Raises:
        RequestError: A dataset or split that was named does not exist or fit.
    """
    return evaluate_network(store, release, *releases.load(store, release), data=data, split=split)


def evaluate_network(
    store: Store,
    release: Release,
    trainable: genloom.Trainable,
    module: Any,
    facts: Any,
    *,
    data: str | None = None,
    split: str = "test",
) -> dict[str, float]:
    """The same of a network that was made of the weights, as one in another precision."""
    import torch

    manifest = manifests.load(store, data or release.dataset)
    manifest.facts_for(trainable)
    if data is None and split not in manifest.splits:
        return {}
    on = f"{manifest.splits.get(split, 0):,} {split} rows of {manifest.full_name}"
    torch.manual_seed(0)  # a bound on the likelihood may draw; the same weights get the same figures
    with torch.inference_mode():
        if isinstance(trainable, genloom.Predictor):
            from genloom_platform.evaluate.predictor import score

            return score(trainable, module, facts, rows_of(store, manifest, split), on=on)
        from genloom_platform.evaluate.likelihood import score as likelihood

        held_out = batches(store, manifest, split, trainable, facts)
        return likelihood(trainable, module, facts, held_out, on)


def batches(
    store: Store, manifest: Manifest, split: str, trainable: genloom.Trainable, facts: Any
) -> Iterator[genloom.Batch]:
    """A split's rows in order, prepared and collated."""
    for rows in rows_of(store, manifest, split):
        yield as_batch(trainable, facts, rows)


def as_batch(
    trainable: genloom.Trainable, facts: Any, rows: list[dict[str, Any]], device: str = "cpu"
) -> genloom.Batch:
    """Rows of values as a generator's batch, on a device."""
    examples = [
        prepare(trainable, genloom.Row(values, (number,)), facts, number)
        for number, values in enumerate(rows)
    ]
    batch = to_batch(trainable, stack(examples))
    if device == "cpu":
        return batch
    return {name: value.to(device) if hasattr(value, "to") else value for name, value in batch.items()}


def rows_of(store: Store, manifest: Manifest, split: str) -> Iterator[list[dict[str, Any]]]:
    """A split's rows in order, as lists of `BATCH_ROWS` or fewer."""
    for shard in manifest.shards_of(split):
        for chunk in range(len(shard.chunks)):
            table = shards.read_chunks(store, manifest, shard, [chunk])
            rows = list(encoding.decode(manifest.columns, table))
            for at in range(0, len(rows), BATCH_ROWS):
                yield rows[at : at + BATCH_ROWS]


def _predictor(store: Store, reference: str) -> genloom.LoadedModel:
    model = load_version(store, Registry(store).find(reference))
    if not isinstance(model.trainable, genloom.Predictor):
        raise RequestError(f"{model.name} is a generator; the judge must be a predictor")
    return model
