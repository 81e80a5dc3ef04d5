"""The engine: the same losses at every ZeRO stage, for any number of ranks, as in a plain torch loop."""

import subprocess
import sys

import pytest
import torch
from examples import Autoencoder, Pair, Penalised
from ranks import on_ranks
from training import STEPS, losses, run_config

import genloom
from genloom_platform.train import optimizers

CASES = [(0, 1), (1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2)]
"""(ZeRO stage, micro batches); with two micro batches a missing flag would show at stage 3."""


def plain(store, kind, average=None):
    """The same training by hand: one process, no engine."""
    from genloom_platform.data import manifest as manifests
    from genloom_platform.data.stream import Stream, local_batches, to_batch
    from genloom_platform.train.micro import seed_everything

    config, generator = run_config(), kind()
    stream = Stream(store, manifests.load(store, "digits"), generator, config.global_batch, config.seed)
    batches = local_batches(stream, 0, 1000)
    seed_everything(config.seed, "weights")
    model = generator.build(stream.data)
    objectives = generator.objectives()
    parts = {o.name: model.get_submodule(o.parts[0]) if o.parts else model for o in objectives}
    optimizers = {
        o.name: torch.optim.SGD(parts[o.name].parameters(), lr=0.1)
        if o.optimizer
        else torch.optim.AdamW(parts[o.name].parameters(), lr=1e-3)
        for o in objectives
    }
    seen = []
    for _ in range(STEPS):
        rounds = [to_batch(generator, next(batches)) for _ in range(max(o.repeats for o in objectives))]
        values = {}
        for objective in objectives:
            for batch in rounds[-objective.repeats :]:
                model.zero_grad()
                loss = objective.loss(model, batch).value
                loss.backward()
                optimizers[objective.name].step()
                values[objective.name] = loss.item()
        seen.append(values)
    return seen


@pytest.mark.parametrize(
    "kind",
    [Autoencoder, Pair, Penalised],
    ids=["one objective", "two objectives", "differentiated twice"],
)
def test_every_zero_stage_gives_the_losses_of_a_plain_loop(digits_store, kind):
    reference = plain(digits_store, kind)
    for (stage, accumulate), (seen, *_) in zip(
        CASES, on_ranks(2, losses, digits_store.url, kind, CASES, {})[0], strict=True
    ):
        for name in reference[0]:
            ours, theirs = ([step[name] for step in run] for run in (seen, reference))
            assert ours == pytest.approx(theirs, rel=1e-4), (stage, accumulate, name)


def test_average_and_clipping_agree_at_every_stage(digits_store):
    settings = {"average": 0.9, "clip": 0.05}
    cases = [(0, 1), (2, 1), (3, 1)]
    two = on_ranks(2, losses, digits_store.url, Autoencoder, cases, settings)[0]
    weights = [weight for _, weight, _ in two]
    assert weights == pytest.approx([weights[0]] * 3, rel=1e-5)
    unaveraged = on_ranks(2, losses, digits_store.url, Autoencoder, [(0, 1)], {"clip": 0.05})[0]
    assert unaveraged[0][1] != pytest.approx(weights[0], rel=1e-5)


def test_buffers_that_a_loss_changes_agree_across_ranks(digits_store):
    ranks = on_ranks(2, losses, digits_store.url, Autoencoder, [(0, 1)], {})
    (mean, calls), (other_mean, other_calls) = (rank[0][2] for rank in ranks)
    assert mean == other_mean
    assert 0 < mean < 1
    assert calls == other_calls == STEPS


def test_the_buffer_for_gradients_is_no_larger_than_the_model_unless_a_run_says_so():
    from genloom_platform.train.sharding import deepspeed_config

    config = run_config(stage=3)
    assert deepspeed_config(config, 2, 1000)["zero_optimization"]["reduce_bucket_size"] == 1000
    own = {"zero_optimization": {"stage": 2, "reduce_bucket_size": 5000}}
    made = deepspeed_config(config.model_copy(update={"deepspeed": own}), 2, 1000)
    assert made["zero_optimization"] == own["zero_optimization"]
    assert "zero_optimization" not in deepspeed_config(
        config.model_copy(update={"deepspeed": {}}), 2, 9
    )


@pytest.mark.parametrize(("name", "fused"), [("AdamW", True), ("SGD", True), ("RAdam", False)])
def test_optimizers_compute_in_one_pass_where_torch_can(name, fused):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = optimizers.make(genloom.Optimizer(name=name, lr=0.1), [weight])
    assert bool(optimizer.param_groups[0].get("fused")) == fused
    weight.grad = torch.ones(3)
    optimizer.step()
    optimizers.place_counts(optimizer)
    assert weight.tolist() < [1, 1, 1]


def test_a_worker_starts_without_mlflow_and_torchs_compiler():
    code = """
import sys, torch, genloom
from genloom_platform.train import engine, optimizers
for name in ("AdamW", "SGD", "RMSprop"):
    optimizer, weight = optimizers.tried(genloom.Optimizer(name=name), 3)
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.zero_grad()
    assert (weight < 0).all()
print([name for name in ("mlflow", "torch._dynamo") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr
