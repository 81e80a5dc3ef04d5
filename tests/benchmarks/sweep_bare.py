"""The trials of a benchmark in bare Ray Tune: the same model, batches, steps and reports, by plain torch."""

import tempfile
import time
from pathlib import Path

from ray import tune


def train(config, batches, steps, every, data, classifier):
    """One trial; the batches are the sweep's own, prepared beforehand."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = classifier.build(data)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    model.train()
    for step in range(1, steps + 1):
        batch = {name: torch.tensor(array) for name, array in batches[step - 1].items()}
        loss = classifier.loss(model, batch)
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        if step % every == 0 or step == steps:
            with tempfile.TemporaryDirectory() as folder:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(state, Path(folder, "state.pt"))
                tune.report(
                    {"loss": float(loss.value), "step": step}, checkpoint=tune.Checkpoint(folder)
                )


def run(rates, concurrent, folder, **given):
    """Train one trial for each learning rate; the seconds that it took."""
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train, **given), {"CPU": 1}),
        param_space={"lr": tune.grid_search(rates)},
        tune_config=tune.TuneConfig(max_concurrent_trials=concurrent, reuse_actors=True),
        run_config=tune.RunConfig(
            name="bare",
            storage_path=folder,
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    )
    begun = time.monotonic()
    results = tuner.fit()
    assert not results.errors
    return time.monotonic() - begun
