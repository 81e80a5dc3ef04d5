"""Stop and resume, exactly and elastically; what a torn, altered or foreign checkpoint does."""

import math
import os
import pickle
import subprocess
import threading
import time
from functools import partial

import pytest
import torch
from examples import Autoencoder, Breaking, Pair
from faulty_s3 import FaultyS3
from ranks import on_ranks
from training import EVERY, in_s3, load_directly, on_a_full_disk, session, slowly_copied

from genloom.errors import StoreError
from genloom_platform.config import Checkpoints, Recovery
from genloom_platform.data.imports import import_dataset
from genloom_platform.store import Store
from genloom_platform.train import checkpoint, runs, saver
from genloom_platform.train.snapshot import Copy, HostMemory

STEPS = 12
AWAY_S = 5


@pytest.mark.parametrize("kind", [Autoencoder, Pair])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_resumed_run_has_bitwise_the_losses_of_an_unbroken_one(digits_store, kind, stage):
    run = f"{kind.__name__.lower()}-{stage}"
    whole, kept = on_ranks(2, session, digits_store.url, kind, f"whole-{run}", STEPS, stage)[0]
    assert kept == ["00000008", "00000012"]
    first, _ = on_ranks(2, session, digits_store.url, kind, run, STEPS, stage, 6)[0]
    assert list(first) == [1, 2, 3, 4, 5, 6]
    rest, _ = on_ranks(2, session, digits_store.url, kind, run, STEPS, stage)[0]
    assert list(rest) == [7, 8, 9, 10, 11, 12]
    assert first | rest == whole


@pytest.mark.parametrize("kind", [Autoencoder, Pair])
def test_other_numbers_of_workers_and_zero_stages_go_on_with_the_same_losses(digits_store, kind):
    run = f"elastic-{kind.__name__.lower()}"
    whole, _ = on_ranks(2, session, digits_store.url, kind, f"whole-{run}", STEPS, 1)[0]
    seen = {}
    for workers, stage, stop_at in [(2, 1, 4), (3, 3, 8), (1, 2, 10), (2, 0, None)]:
        seen |= on_ranks(workers, session, digits_store.url, kind, run, STEPS, stage, stop_at)[0][0]
    assert list(seen) == list(whole)
    assert seen == {step: pytest.approx(metrics, rel=1e-4) for step, metrics in whole.items()}


CPU = {"device": "cpu"}
SETTINGS = {
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "recomputed": {"recompute": ["0", "2"]},
    "cosine": {"schedule": {"name": "cosine", "warmup": 3}},
    "SGD": {"optimizer": {"name": "SGD", "momentum": 0.9}, "clip": 1.0},
    "Adafactor": {"optimizer": {"name": "Adafactor"}},
    "NAdam": {"optimizer": {"name": "NAdam"}, "accumulate": 2},
    "Adagrad": {"optimizer": {"name": "Adagrad"}},
    "optimizer offload": {"zero": {"offload_optimizer": CPU}},
}


@pytest.mark.parametrize("stage", [1, 3])
@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_resumed_exactly(digits_store, name, stage):
    _goes_on_exactly(digits_store, f"{name.replace(' ', '-')}-{stage}", stage, SETTINGS[name])


def test_parameter_offload_is_resumed_exactly(digits_store):
    settings = {"zero": {"offload_optimizer": CPU, "offload_param": CPU}}
    _goes_on_exactly(digits_store, "parameter-offload", 3, settings)


def test_a_compiled_model_is_resumed_exactly(digits_store):
    _goes_on_exactly(digits_store, "compiled", 2, {"compile": True})


def _goes_on_exactly(store, run, stage, settings):
    trained = partial(session, **settings)
    whole, _ = on_ranks(2, trained, store.url, Autoencoder, f"whole-{run}", 8, stage)[0]
    assert whole[8]["loss"] < whole[1]["loss"]
    first, _ = on_ranks(2, trained, store.url, Autoencoder, run, 8, stage, 4)[0]
    rest, _ = on_ranks(2, trained, store.url, Autoencoder, run, 8, stage)[0]
    assert first | rest == whole


def test_the_best_checkpoint_stays_beside_the_newest(digits_store):
    kept = partial(session, checkpoint=Checkpoints(every=2, keep=1, best="loss", best_is="highest"))
    seen, names = on_ranks(1, kept, digits_store.url, Autoencoder, "best", 8)[0]
    best = max(range(2, 9, 2), key=lambda step: seen[step]["loss"])
    assert names == sorted({f"{best:08d}", "00000008"})


class Payload:
    """Leaves a mark where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def _truncate(store, path):
    store.write(path, store.read(path)[:-7])


def _flip(store, path):
    content = bytearray(store.read(path))
    content[len(content) * 2 // 3] ^= 4
    store.write(path, bytes(content))


@pytest.mark.parametrize(("spoil", "why"), [
    (_truncate, "bytes of"), (_flip, "another digest"), (Store.remove, "is missing"),
])  # fmt: skip
@pytest.mark.parametrize("part", ["rank-0", "rank-1", "rest", "manifest"])
def test_a_spoilt_checkpoint_is_named_and_the_one_before_taken(digits_store, part, spoil, why):
    run = f"spoilt-{spoil.__name__.strip('_')}-{part}"
    whole, _ = on_ranks(2, session, digits_store.url, Autoencoder, f"whole-{run}", STEPS)[0]
    on_ranks(2, session, digits_store.url, Autoencoder, run, STEPS, 1, 8)
    name = "manifest.json" if part == "manifest" else f"{part}.0.safetensors"
    spoil(digits_store, f"{checkpoint.place(run, 8)}/{name}")
    found = checkpoint.find(digits_store, run)
    assert found.step == 4
    if part == "manifest" and spoil is Store.remove:
        assert found.damaged == {}  # without its manifest there never was one
    else:
        wrong = "cannot be read" if part == "manifest" and spoil is _truncate else why
        assert list(found.damaged) == [8]
        assert name in found.damaged[8]
        assert wrong in found.damaged[8] or "cannot be read" in found.damaged[8]
    rest, _ = on_ranks(2, session, digits_store.url, Autoencoder, run, STEPS)[0]
    assert rest == {step: whole[step] for step in range(5, 13)}


def test_an_altered_checkpoint_is_never_unpickled(digits_store, tmp_path):
    on_ranks(1, session, digits_store.url, Autoencoder, "altered", 4)
    mark = tmp_path / "mark"
    record = checkpoint.read(digits_store, "altered", 4)
    for name in record.files:
        digits_store.write(f"{checkpoint.place('altered', 4)}/{name}", pickle.dumps(Payload(str(mark))))
    assert list(checkpoint.find(digits_store, "altered").damaged) == [4]
    # And where it is loaded all the same: by its digest, and because nothing of it is ever a pickle.
    with pytest.raises(AssertionError, match="another digest"):
        on_ranks(1, load_directly, digits_store.url, "altered", 4)
    assert not mark.exists()


def test_an_uncommitted_checkpoint_does_not_exist(tmp_path):
    store = Store(tmp_path.as_uri())
    store.write(f"{checkpoint.place('torn', 4)}/rank-0.0.safetensors", b"half")
    assert checkpoint.find(store, "torn").checkpoint is None


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"cannot mount a small disk: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_damaged_checkpoints_count_for_nothing_when_others_are_pruned(tmp_path):
    store = Store(tmp_path.as_uri())
    good = checkpoint.Checkpoint(step=50, workers=1, zero_stage=0, files={}, metrics={}, created_at="")
    for step, text in ((50, good.signed().model_dump_json().encode()), (200, b"{}"), (300, b"")):
        store.write(f"{checkpoint.place('run', step)}/{checkpoint.MANIFEST}", text)
    checkpoint.prune(store, "run", Checkpoints(keep=2), 50)
    assert checkpoint.committed(store, "run") == [50]


def test_what_was_cut_off_is_cleared_away_by_the_next_checkpoint(digits_store):
    digits_store.write(f"{checkpoint.place('cut', 3)}/rank-0.0.safetensors", b"half")
    digits_store.write(f"{checkpoint.place('cut', 9)}/rank-0.0.safetensors", b"half")
    _, kept = on_ranks(1, session, digits_store.url, Autoencoder, "cut", 4)[0]
    assert kept == ["00000004", "00000009"]


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_a_loss_that_is_not_a_number_is_left_out_where_it_stands(digits_store, stage):
    skip = partial(session, recovery=Recovery(nan="skip"), average=None)
    seen, _ = on_ranks(2, skip, digits_store.url, Breaking, f"skip-{stage}", 200, stage)[0]
    bad = [step for step, metrics in seen.items() if math.isnan(metrics["loss"])]
    assert 0 < len(bad) < 50
    assert seen[200]["loss"] < seen[1]["loss"]


def test_training_goes_on_while_s3_is_away_and_saves_when_it_is_back(s3, digits_store):
    left_at = []

    def away(method, path, number):
        if not left_at and "00000008/" in path:
            left_at.append(time.monotonic())
        return "503" if left_at and time.monotonic() - left_at[0] < AWAY_S else None

    proxy = FaultyS3(os.environ["AWS_ENDPOINT_URL"].removeprefix("http://"), away)
    try:
        store = Store(f"{s3}/away")
        import_dataset(store, "digits", None, None, {})
        environment = {k: v for k, v in os.environ.items() if k.startswith("AWS_")}
        environment["AWS_ENDPOINT_URL"] = proxy.url
        seen, kept = on_ranks(2, in_s3, environment, store.url, Autoencoder, "away", 12)[0]
    finally:
        proxy.close()
    assert proxy.injected["503"] > 2
    assert kept == ["00000008", "00000012"]
    whole, _ = on_ranks(2, session, digits_store.url, Autoencoder, "there", 12)[0]
    assert seen == whole
    assert checkpoint.find(store, "away").step == 12


def test_a_disk_that_is_full_is_told_and_the_last_checkpoint_stays(small_disk):
    store = Store(small_disk.as_uri())
    import_dataset(store, "digits", None, None, {})
    with pytest.raises(AssertionError, match=r"StoreError: cannot write .*No space left"):
        on_ranks(1, on_a_full_disk, store.url, str(small_disk))
    (small_disk / "filler").unlink()
    assert checkpoint.find(store, "full") == checkpoint.Found(checkpoint.read(store, "full", EVERY))


def test_what_is_copied_is_waited_for_before_it_changes_and_has_one_place():
    memory, weights, buffer = HostMemory(), torch.ones(3), torch.ones(2)
    live = {"weights": (weights, 0), "buffer": (buffer, None)}
    copy = Copy(memory, live, {"buffer"})
    buffer += 1  # as a loss does, before the copy is done
    threading.Timer(0.2, copy.finish).start()
    copy.settle()
    weights += 1
    assert [tensor.tolist() for tensor, _ in copy.state.values()] == [[1, 1, 1], [1, 1]]
    again = Copy(memory, live).state["weights"][0]
    assert again.data_ptr() == copy.state["weights"][0].data_ptr()


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_a_checkpoint_is_of_its_step_however_slow_the_copy(digits_store, stage):
    slow = on_ranks(2, slowly_copied, digits_store.url, f"slow-{stage}", stage)
    on_ranks(2, session, digits_store.url, Autoencoder, f"fast-{stage}", EVERY, stage)
    assert slow == [[True], [True]]
    made = [checkpoint.read(digits_store, f"{kind}-{stage}", EVERY) for kind in ("slow", "fast")]
    assert made[0].files == made[1].files


def test_run_names_are_new_and_claimed_once(tmp_path):
    store = Store(tmp_path.as_uri())
    name = runs.new_name(store, "image-vae")
    store.write(f"runs/{name}/run.json", b"{}")
    assert runs.new_name(store, "image-vae") != name
    with pytest.raises(Exception, match="there is a run"):
        runs.claim(store, name)


def test_a_store_that_is_away_is_waited_for(tmp_path):
    store, tries = Store(tmp_path.as_uri()), []

    def away():
        tries.append(1)
        if len(tries) < 3:
            raise StoreError("away")
        return "there"

    with pytest.raises(StoreError):
        saver.patiently(store, away)  # a disk of this machine does not come back by waiting
    store.folder = None
    tries.clear()
    assert saver.patiently(store, away) == "there"
    with pytest.raises(StoreError):
        saver.patiently(store, lambda: tries.clear() or away(), patience_s=0.1)
