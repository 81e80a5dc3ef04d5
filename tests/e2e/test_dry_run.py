"""What a dry run prints, as a person sees it."""

import pytest
import yaml

from genloom_platform.config import resolve

pytestmark = pytest.mark.e2e
WORDS = [
    "train",
    "image-gan",
    "width=16",
    "average=0.99",
    "--data",
    "digits",
    "--workers",
    "2",
    "--dry-run",
]


def all_files(store):
    return sorted(path for path in store.folder.rglob("*") if path.is_file())


def test_a_dry_run_tells_size_memory_time_and_cost_and_writes_nothing(genloom_command, digits_store):
    before = all_files(digits_store)
    done = genloom_command(*WORDS, store=digits_store.url, GENLOOM_PRICE_PER_HOUR="720 EUR")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all_files(digits_store) == before
    values = yaml.safe_load(done.stdout)
    config = resolve(values, digits_store)
    assert (config.scale.workers, config.generator["width"], config.average) == (2, 16, 0.99)
    told = [line.removeprefix("# ") for line in done.stdout.splitlines() if line.startswith("#")]
    for words in (
        "batch['image']: [32, 1, 8, 8] torch.float32",
        "memory of each of 2 workers",
        "a machine with 2 workers",
    ):
        assert any(words in line for line in told), done.stdout
    columns = {line[:16].strip(): line[16:].split() for line in told if line.count("  ") > 3}
    assert {"gradients", "master weights", "averaged weights", "activations", "total"} <= set(columns)
    assert next(cells for name, cells in columns.items() if name.startswith("in ")) == ["fits"] * 4
    time = next(line for line in told if line.startswith("time: "))
    assert "for 1,000 steps with 2 workers" in time
    assert "communication" in time
    cost = next(line for line in told if line.startswith("cost: "))
    assert 0 < float(cost.split()[1].replace(",", "")) < 720
    assert "EUR" in cost
