"""Training beside its peers: the same models, batches and machine, in one run.

Each test prints a table; none asserts a time. All that is compared with must have come to the same losses.
"""

import pytest
import torch
from benchmarks import (
    tables,
    training_memory,
    training_mfu,
    training_recovery,
    training_saving,
    training_steps,
)
from benchmarks.training_models import GPT


@pytest.mark.bench
@pytest.mark.usefixtures("ray_cluster")
def test_step_time_beside_loops_by_hand_and_peers():
    found = training_steps.measured()
    training_steps.show(found)
    training_steps.check(found)


@pytest.mark.bench
def test_time_that_training_stands_still_for_a_checkpoint(tmp_path):
    training_saving.show(tmp_path)


@pytest.mark.bench
@pytest.mark.usefixtures("ray_cluster")
def test_time_from_a_kill_to_the_next_step_beside_ray_train(digits_store):
    training_recovery.show(digits_store)


@pytest.mark.bench
def test_model_state_beside_what_each_zero_stage_requires():
    training_memory.show()


@pytest.mark.bench
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_mfu_of_a_gpt_of_124_million_parameters():
    reached = training_mfu.reach(training_mfu.SMALL)
    tables.show(
        "a GPT in bf16, one GPU, train/loop.py without Ray",
        ("", "parameters", "tokens/s", "MFU", "GB at the peak"),
        [(
            reached.device, f"{reached.parameters:,}", f"{reached.tokens_per_s:,.0f}",
            f"{reached.mfu:.1%}" if reached.peak else "the device's peak is unknown",
            f"{reached.memory_bytes / 1e9:.1f}",
        )],
        f"{training_mfu.SMALL.rows} rows of {training_mfu.SMALL.context} tokens a step, torch.compile; "
        "FLOPs of a token: 6 N + 12 layers width context",
    )  # fmt: skip


def test_the_mfu_of_a_gpt_is_measured_on_whatever_device_there_is():
    tiny = GPT(vocabulary=64, context=16, width=32, layers=2, heads=2, rows=2)
    reached = training_mfu.reach(tiny, warm=2, steps=6, compile=False)
    blocks = 2 * (12 * 32 * 32 + 13 * 32)
    assert reached.parameters == blocks + 64 * 32 + 16 * 32 + 2 * 32
    assert reached.flops_per_token == 6 * (reached.parameters - 16 * 32) + 12 * 2 * 32 * 16
    assert reached.tokens_per_s > 0
    assert reached.device == "CPU" or reached.memory_bytes > 0
