"""Ray Train bare: the loops by hand under a `TorchTrainer`, as Ray's guide has it.

They report to Ray once, at the end: its controller takes a report every two seconds, and a loop that reports
more often waits for it.
"""

import tempfile
from typing import Any

from benchmarks.training_contenders import RANKS, Case, ddp_by_hand, deepspeed_by_hand, train_all
from benchmarks.training_turns import Turns


def train(config: dict[str, Any]) -> None:
    """What Ray Train calls on each worker."""
    import os

    import ray.train
    import ray.train.torch

    os.environ["LOCAL_SIZE"] = str(ray.train.get_context().get_local_world_size())

    def run(case: Case, turns: Turns) -> dict[int, float]:
        if case.stage:
            return deepspeed_by_hand(case, turns)
        return ddp_by_hand(case, turns, ray.train.torch.prepare_model)

    train_all("ray", run, config["place"], config["cases"])
    ray.train.report({})


def fit(place: str, cases: list[Case]) -> None:
    """Train all cases, from the first to the last."""
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    with tempfile.TemporaryDirectory() as scratch:
        TorchTrainer(
            train,
            train_loop_config={"place": place, "cases": cases},
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ray.train.ScalingConfig(num_workers=RANKS),
            run_config=ray.train.RunConfig(storage_path=scratch),
        ).fit()
