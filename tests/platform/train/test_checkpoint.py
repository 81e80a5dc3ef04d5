"""Stop and resume in one process; what a torn, altered or foreign checkpoint does."""

import pickle

import pytest
from examples import Autoencoder, Pair
from ranks import on_ranks
from training import session

from genloom.errors import TrainingError
from genloom_platform.store import Store
from genloom_platform.train import checkpoint, runs

STEPS = 12


@pytest.mark.parametrize(("kind", "stage"), [(Autoencoder, 3), (Pair, 1)])
def test_a_resumed_run_has_bitwise_the_losses_of_an_unbroken_one(digits_store, kind, stage):
    run = f"{kind.__name__.lower()}-{stage}"
    whole, kept = on_ranks(2, session, digits_store.url, kind, f"whole-{run}", STEPS, stage)[0]
    assert kept == ["00000008", "00000012"]
    first, _ = on_ranks(2, session, digits_store.url, kind, run, STEPS, stage, 6)[0]
    assert list(first) == [1, 2, 3, 4, 5, 6]
    rest, _ = on_ranks(2, session, digits_store.url, kind, run, STEPS, stage)[0]
    assert list(rest) == [7, 8, 9, 10, 11, 12]
    assert first | rest == whole


def test_another_number_of_workers_is_refused(digits_store):
    on_ranks(1, session, digits_store.url, Autoencoder, "alone", 4)
    with pytest.raises(
        AssertionError, match="saved by 1 workers at ZeRO stage 1, and this is 2 at stage 1"
    ):
        on_ranks(2, session, digits_store.url, Autoencoder, "alone", 8)


class Payload:
    """Leaves a mark where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_an_altered_checkpoint_is_never_unpickled(digits_store, tmp_path):
    on_ranks(1, session, digits_store.url, Autoencoder, "altered", 4)
    found = checkpoint.newest(digits_store, "altered")
    mark = tmp_path / "mark"
    for name in found.files:
        digits_store.write(
            f"{checkpoint.folder('altered')}/00000004/{name}", pickle.dumps(Payload(str(mark)))
        )
    with pytest.raises(AssertionError, match="has another digest than when it was saved"):
        on_ranks(1, session, digits_store.url, Autoencoder, "altered", 8)
    assert not mark.exists()


def test_an_uncommitted_checkpoint_does_not_exist(tmp_path):
    store = Store(tmp_path.as_uri())
    store.write(f"{checkpoint.folder('torn')}/00000004/remaining.pt", b"half")
    assert checkpoint.newest(store, "torn") is None
    store.write(f"{checkpoint.folder('torn')}/00000004/manifest.json", b"{")
    with pytest.raises(TrainingError, match="damaged"):
        checkpoint.newest(store, "torn")


def test_run_names_are_new_and_claimed_once(tmp_path):
    store = Store(tmp_path.as_uri())
    name = runs.new_name(store, "image-vae")
    store.write(f"runs/{name}/run.json", b"{}")
    assert runs.new_name(store, "image-vae") != name
    with pytest.raises(Exception, match="there is a run"):
        runs.claim(store, name)
