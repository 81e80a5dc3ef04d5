"""The memory that is foretold, against that which engines take on one and on two ranks."""

import pytest
import torch
from deepspeed.runtime.torch_autocast import LOWER_PRECISION_SAFE_MODULES
from ranks import on_ranks
from sizing import BUCKET, Deep, a_config, measured

import genloom
from genloom_platform.train import optimizers, sizes
from genloom_platform.train.layout import ModelSize, PartSize, layout_of
from genloom_platform.train.memory import footprint
from genloom_platform.train.sizes import needs_of, size_of

MORE = {"average": 0.9, "accumulate": 2, "optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9}}
OFFLOAD = {"zero": {"offload_optimizer": {"device": "cpu"}}}
PLAIN = [(stage, {}) for stage in range(4)]
ALL = [*PLAIN, *((stage, MORE) for stage in (0, 2, 3)), *((stage, OFFLOAD) for stage in (2, 3))]


@pytest.mark.parametrize(
    ("workers", "objectives", "cases"),
    [(1, 1, PLAIN), (2, 1, ALL), (2, 2, PLAIN)],
    ids=["one worker", "two workers", "two workers, two objectives"],
)
def test_what_is_foretold_is_within_a_tenth_of_what_is_measured(workers, objectives, cases):
    generator = Deep(objectives_wanted=objectives)
    found = on_ranks(workers, measured, generator, cases)[0]
    for (stage, settings), (at_rest, most) in zip(cases, found, strict=True):
        config = a_config(stage, **settings)
        told = footprint(size_of(config, generator, None), layout_of(config, workers))
        in_a_step = told.both.total - told.both.checkpoint
        in_flight = 4 * BUCKET  # whether one more bucket is on its way at the fullest moment is chance
        assert abs(in_a_step - most) < 0.1 * most + in_flight, (stage, settings)
        if stage < 3 or objectives == 1:  # else DeepSpeed leaves weights gathered until the next step
            assert told.at_rest == pytest.approx(at_rest, rel=0.1), (stage, settings)


def test_a_model_is_sized_without_its_weights():
    class Watching(Deep):
        def build(self, data):
            model = super().build(data)
            assert {p.device.type for p in model.parameters()} == {"meta"}
            return model

    size = size_of(a_config(3), Watching(objectives_wanted=2), None)
    layer = 384 * 384 + 384
    assert size.parameters == 6 * layer
    assert size.buffers_bytes == 4000
    assert size.children == ("front", "back")
    front, back = size.parts
    assert (front.trained, front.largest, front.kept, front.state_bytes) == (
        4 * layer,
        layer,
        4 * 384,
        8,
    )
    assert (back.trained, back.state_bytes) == (2 * layer, 0)


def test_a_model_whose_author_looks_at_its_weights_is_built_with_them():
    class Looking(Deep):
        def build(self, data):
            model = super().build(data)
            model.scale = model.front[0][0].weight.std().item()
            return model

    assert size_of(a_config(0), Looking(), None) == size_of(a_config(0), Deep(), None)


@pytest.mark.parametrize(
    ("name", "state_bytes"), [("SGD", 0), ("RMSprop", 4), ("AdamW", 8), ("Adadelta", 8), ("Rprop", 8)]
)
def test_what_an_optimizer_keeps_is_seen_by_stepping_it(name, state_bytes):
    assert needs_of(genloom.Optimizer(name=name))[0] == pytest.approx(state_bytes)


def test_every_optimizer_of_torch_is_sized_or_refused_before_the_start():
    refused = set()
    for name in vars(torch.optim):
        settings = genloom.Optimizer(name=name)
        problem = optimizers.check(settings)
        if problem:
            refused |= {name} if "is no optimizer" not in problem.rule else set()
        else:
            assert needs_of(settings)[0] >= 0
    assert refused == {"LBFGS", "Muon", "SparseAdam"}


def test_the_modules_that_communicate_in_lower_precision_are_deepspeeds():
    assert list(sizes.LOWER_PRECISION) == LOWER_PRECISION_SAFE_MODULES


SIZE = ModelSize((PartSize(1_000_000_000, largest=50_000_000, kept=0, state_bytes=8, working_bytes=8),))


def of_stages(workers, gpu=True, **settings):
    found = [
        footprint(SIZE, layout_of(a_config(stage, **settings), workers, gpu=gpu), activations=1e9)
        for stage in range(4)
    ]
    return [(each.device.total / 1e9, each.host.total / 1e9) for each in found]


def test_a_higher_stage_takes_less_where_there_are_many_workers():
    totals = [device for device, _ in of_stages(64)]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] > 18
    assert 4 < totals[3] < 7  # its weights are whole once, for the export


def test_offload_moves_the_optimizer_to_the_host():
    zero = {"offload_optimizer": {"device": "cpu"}}
    for (device, host), (less, more) in zip(of_stages(4)[1:], of_stages(4, zero=zero)[1:], strict=True):
        assert device - less > 2
        assert more - host > 3


def test_a_gpu_has_its_communication_buffer_from_the_start():
    zero = {"reduce_bucket_size": 2_000_000_000}
    on_gpu, on_cpu = (of_stages(4, gpu=gpu, zero=zero)[2][0] for gpu in (True, False))
    assert on_gpu - on_cpu == pytest.approx(4)
