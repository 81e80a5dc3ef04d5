"""A run tried out before it starts, and one that runs out of memory: what is told, and what to lower."""

import pytest

import genloom
from genloom.errors import RequestError, TrainingError
from genloom_platform.config import RunConfig, read_values, resolve
from genloom_platform.profiles import Price
from genloom_platform.train import launch, preview, runs, trial
from genloom_platform.train.layout import ModelSize, PartSize
from genloom_platform.train.trial import Trial

GB = 10**9
SIZE = ModelSize(
    (PartSize(GB, largest=10_000_000, kept=0, state_bytes=8, working_bytes=4),), children=("blocks",)
)


def a_config(workers=4, gpus=1.0, **zero):
    return RunConfig.model_validate(
        {"generator": {"name": "image-vae"}, "data": "digits", "global_batch": 64, "steps": 7200,
         "samples": {"every": 0}, "scale": {"workers": workers, "gpus_per_worker": gpus},
         "deepspeed": {"zero_optimization": {"stage": 2, **zero}}}
    )  # fmt: skip


def fits(config, tried):
    room = preview.room_of(config, tried)
    found = preview.fits_of(config, SIZE, config.scale.fewest, tried, room)
    return room, {fit.layout.name + " *" * fit.chosen: fit.fits for fit in found}


def test_a_layout_fits_where_there_is_room_for_it_on_the_gpu():
    tried = Trial(device="A GPU", gpu_bytes=15 * GB, machine_bytes=100 * GB, activations_bytes=2 * GB)
    room, found = fits(a_config(), tried)
    assert (room.size_bytes, room.of) == (15 * GB, "A GPU")
    assert found == {"ZeRO 0": False, "ZeRO 1": False, "ZeRO 2 *": True, "ZeRO 3": True}
    half, found = fits(a_config(gpus=0.5), tried)
    assert (half.size_bytes, half.of) == (7.5 * GB, "0.5 of A GPU")
    assert not any(found.values())


def test_offload_needs_room_on_the_host_as_well():
    config = a_config(offload_optimizer={"device": "cpu"})
    large, small = (
        Trial(device="A GPU", gpu_bytes=10 * GB, machine_bytes=machine * GB) for machine in (100, 20)
    )
    assert fits(config, large)[1]["ZeRO 2 offload *"] is True
    assert fits(config, small)[1]["ZeRO 2 offload *"] is False


def test_without_gpus_the_workers_share_the_machine():
    room, found = fits(a_config(gpus=0), Trial(device="CPU", machine_bytes=80 * GB))
    assert room.size_bytes == 20 * GB
    assert found == {"ZeRO 0": False, "ZeRO 1": True, "ZeRO 2 *": True, "ZeRO 3": True}


def test_where_nothing_was_seen_nothing_is_said_to_fit():
    assert fits(a_config(), Trial())[1] == dict.fromkeys(("ZeRO 0", "ZeRO 1", "ZeRO 2 *", "ZeRO 3"))


def test_activations_are_what_a_step_allocated_beyond_gradients_and_buffers():
    small = ModelSize((PartSize(10_000_000, largest=1_000_000, state_bytes=8, working_bytes=0),))
    gradients, sent, bucket = 40_000_000, 8_000_000, 40_000_000
    for gpus in (0, 1):
        tried = Trial(
            gpu_bytes=gpus * 80 * GB, machine_bytes=80 * GB, activations_bytes=GB,
            step_bytes=gradients + sent + bucket + 3 * GB,
        )  # fmt: skip
        found = preview.fits_of(a_config(workers=1, gpus=gpus), small, 1, tried, None)
        assert [fit.memory.activations for fit in found] == [3 * GB] * 4


def test_time_and_cost_are_those_of_the_trials_steps():
    tried = Trial(steps_s=(9, 0.5, 0.5), data_s=(0.1, 0.2, 0.3))
    pace = preview.pace_of(a_config(), tried, Price(amount=3, currency="EUR"))
    assert (pace.step_s, pace.rows_per_s, pace.run_s) == (0.5, 128, 3600)
    assert pace.data_s == pytest.approx(0.2)
    assert str(pace.cost) == "12.00 EUR"
    assert preview.pace_of(a_config(), tried, None).cost is None
    assert preview.pace_of(a_config(), Trial(), None) is None


def test_the_price_is_that_of_the_cluster_that_is_used(monkeypatch, tmp_path):
    profile = tmp_path / "faraway.yaml"
    profile.write_text("price_per_hour: {amount: 720, currency: EUR}\n")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("GENLOOM_CLUSTER", str(profile))
    assert preview.price_per_hour() is None  # the work would be done on this machine
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    assert str(preview.price_per_hour()) == "720.00 EUR"
    monkeypatch.setenv("GENLOOM_PRICE_PER_HOUR", "2.5 USD")
    assert str(preview.price_per_hour()) == "2.50 USD"
    monkeypatch.setenv("GENLOOM_PRICE_PER_HOUR", "much")
    with pytest.raises(RequestError, match=r"GENLOOM_PRICE_PER_HOUR = 'much' is no price; give"):
        preview.price_per_hour()


@pytest.mark.parametrize(("notes", "status", "ending", "message"), [
    ([{"steps_s": 1.0}], 0, "done", ""),
    ([{"steps_s": 1.0}], None, "done", ""),
    ([{"device": "CPU"}], None, "out of time", "no step was timed within 60 s"),
    ([{"steps_s": 1.0}], -9, "out of memory", "was killed"),
    ([], -11, "error", "status -11: Segmentation fault"),
    ([{"ending": "error", "message": "ValueError: no"}], 1, "error", "ValueError: no"),
])  # fmt: skip
def test_a_trial_that_ends_early_says_why(notes, status, ending, message):
    found = trial.outcome(notes, status, ["...", "Segmentation fault"])
    assert found.ending == ending
    assert message in found.message
    assert len(found.steps_s) == sum("steps_s" in note for note in notes)


def test_want_of_memory_in_a_trial_on_a_cluster_is_told_with_what_to_lower(
    digits_store, ray_cluster, monkeypatch
):
    import ray

    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    session = genloom.connect(digits_store.url)
    seen = session.preview("example-short", data="digits", workers=2)
    assert seen.trial.out_of_memory
    assert "can't allocate memory" in seen.trial.message
    assert seen.pace is None
    assert "each worker's share is 32 rows; give accumulate=2 (16 rows at once)" in seen.advice
    assert seen.trial.activations_bytes > 0
    assert all(fit.fits for fit in seen.fits)


def test_a_run_that_runs_out_of_memory_ends_with_what_to_lower(digits_store, ray_cluster):
    words = ["data=digits", "scale.workers=2", "steps=10"]
    config = resolve(read_values("example-short", words), digits_store)
    with pytest.raises(TrainingError, match=r"ran out of memory: .*can't allocate memory") as error:
        launch.train(digits_store, config, name="short")
    assert "each worker's share is 32 rows; give accumulate=2 (16 rows at once)" in str(error.value)
    assert [attempt.ending for attempt in runs.history(digits_store, "short")] == ["out of memory"]
