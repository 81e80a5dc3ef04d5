"""What is said to lower where memory is short: by table."""

from dataclasses import replace

import pytest

from genloom_platform.config import RunConfig
from genloom_platform.train.advice import to_lower_memory
from genloom_platform.train.layout import ModelSize, PartSize

PART = PartSize(2_000_000_000, largest=10_000_000, kept=0, state_bytes=8, working_bytes=4)
LARGE = ModelSize((PART,), children=("embed", "blocks"))
SMALL = ModelSize((replace(PART, trained=100_000_000),))


def advice(workers, size=LARGE, **settings):
    values = {
        "generator": {"name": "x"},
        "data": "d",
        "global_batch": 64,
        "scale": {"workers": workers},
    }
    config = RunConfig.model_validate(values | settings)
    return to_lower_memory(config, size, config.scale.fewest)


GPUS = {"scale": {"workers": 8, "gpus_per_worker": 1}}
STAGE_2 = {"deepspeed": {"zero_optimization": {"stage": 2}}}


@pytest.mark.parametrize(("said", "wanted", "unwanted"), [
    (advice(1), ["share is 64 rows; give accumulate=2 (32 rows at once)", "recompute=[embed,blocks]",
                 "scale.workers=2 (32 rows each)"], ["precision", "offload"]),
    (advice(2, accumulate=4), ["share is 32 rows, 8 at once; give accumulate=8 (4 rows at once)"], []),
    (advice([2, 8]), ["accumulate=2 (16 rows at once)"], ["scale.workers"]),
    (advice(2, global_batch=6), ["share is 3 rows; give accumulate=3 (1 row at once)"], []),
    (advice(64), ["share is 1 row; give"], ["accumulate="]),
    (advice(1, recovery={"nan": "skip"}), ["share is 64 rows"], ["accumulate"]),
    (advice(8, **GPUS), ["zero_optimization.stage=1 (model states 34.0 GB → 22.0 GB a worker)",
                         "zero_optimization.stage=2 (model states 34.0 GB → 14.1 GB a worker)",
                         "offload_optimizer.device=cpu", "precision=bf16"], ["reduce_bucket_size"]),
    (advice(8, **GPUS, **STAGE_2, precision="bf16", recompute=["blocks"]),
     ["zero_optimization.offload_optimizer.device=cpu (model states 14.1 GB → 10.1 GB on the GPU)"],
     ["stage=", "precision", "recompute"]),
    (advice(8, SMALL, **GPUS, **STAGE_2),
     ["zero_optimization.reduce_bucket_size=50000000 (model states 1.1 GB → 880.0 MB a worker)"], []),
    (advice(2, size=None), ["share is 32 rows", "recompute=[NAMES OF MODULES]"], ["stage"]),
    (advice(1, size=None, global_batch=1, recompute=["a"]),
     ["share is 1 row; give workers with more memory, or a smaller model"], []),
])  # fmt: skip
def test_advice_has_numbers_and_names_only_what_helps(said, wanted, unwanted):
    assert [words for words in wanted if words not in said] == [], said
    assert [words for words in unwanted if words in said] == [], said
