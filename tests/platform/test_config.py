import pytest

from genloom.errors import InvalidConfig, RequestError, UnknownName
from genloom_platform.config import parse_value, put, read_values, resolve


def problems(store, *words, source="image-classifier"):
    with pytest.raises(InvalidConfig) as error:
        resolve(read_values(source, words), store)
    return {problem.where: str(problem) for problem in error.value.problems}


def test_all_errors_come_at_once_with_value_rule_and_remedy(digits_store):
    found = problems(
        digits_store, "widht=3", "global_batch=33", "scale.workers=2", "steps=0", "deepspeed.bf16=true",
        "optimizer.lr=-1", "precision=fp8", "data=digit", "scal.workers=1",
    )  # fmt: skip
    assert "did you mean 'width'" in found["generator.widht"]
    assert "give 32 or 34" in found["global_batch"]
    assert "give 1 or more" in found["steps"]
    assert "use precision instead" in found["deepspeed.bf16"]
    assert "give more than 0" in found["optimizer.lr"]
    assert "'bf16' or 'fp16'" in found["precision"]
    assert "did you mean 'digits'" in found["data"]
    assert "generator.scal" in found


@pytest.mark.parametrize(("word", "where", "message"), [
    ("optimizer.name=Addam", "optimizer.name", "did you mean 'Adam'"),
    ("optimizers.loss.name=Addam", "optimizers.loss.name", "did you mean 'Adam'"),
    ("optimizers.critic.lr=1", "optimizers.critic", "has no objective 'critic'"),
    ("optimizer.momentum=0.9", "optimizer", "AdamW takes no momentum"),
])  # fmt: skip
def test_an_optimizer_is_checked_before_the_start(digits_store, word, where, message):
    assert message in problems(digits_store, "data=digits", word)[where]


@pytest.mark.parametrize(("words", "remedy"), [
    (["global_batch=33", "scale.workers=2"], "give 32 or 34, or scale.workers=1 or 3"),
    (["global_batch=36", "scale.workers=[2,8]"], "give 32 or 40, or scale.workers=[2, 6] or [2, 9]"),
    (["global_batch=20", "scale.workers=4", "accumulate=8"], "give 32, or accumulate=5"),
    (["global_batch=2", "scale.workers=[3,4]"], "give 12, or scale.workers=[1, 2]"),
])  # fmt: skip
def test_a_batch_that_does_not_divide_is_refused_with_the_nearest_that_do(digits_store, words, remedy):
    found = problems(digits_store, "data=digits", *words)
    assert list(found) == ["global_batch"]
    assert found["global_batch"].endswith(remedy)


@pytest.mark.parametrize(("key", "value", "message"), [
    ("zero_optimisation", "{stage: 2}", "did you mean 'zero_optimization'"),
    ("zero_optimization", "2", "is no group"),
    ("zero_optimization.sage", "2", "did you mean 'stage'"),
    ("zero_optimization.stage", "7", "stage = 7: is no stage; give 0, 1, 2 or 3"),
    ("zero_optimization", "{stage: 7, overlap_comm: true}", "is no stage; give 0, 1, 2 or 3"),
    ("zero_optimization.stage", "true", "is no stage"),
    ("zero_optimization.offload_optimizer.device", "cpu", "give deepspeed.zero_optimization.stage=1"),
    ("zero_optimization.offload_param.device", "nvme", "cannot be saved"),
    ("comms_logger.enabld", "true", "did you mean 'enabled'"),
    ("csv_monitor", "on", "is no group"),
    ("wall_clock_breakdown", "perhaps", "give true or false"),
    ("communication_data_type", "fp8", "'bf16'"),
    ("flops_profiler.enabled", "true", "leave it out"),
    ("checkpoint.load_universal", "true", "use checkpoint instead"),
    ("eval", "1", "is no key of DeepSpeed's JSON"),
])  # fmt: skip
def test_every_group_of_deepspeeds_json_is_checked(digits_store, key, value, message):
    found = problems(digits_store, "data=digits", f"deepspeed.{key}={value}")
    assert len(found) == 1
    where, said = next(iter(found.items()))
    assert where.startswith(f"deepspeed.{key.partition('.')[0]}")
    assert message in said


def test_a_best_checkpoint_by_a_validation_that_there_is_not_is_refused(digits_store):
    best = "checkpoint.best=validation/loss"
    found = problems(digits_store, "data=digits", best)
    assert "holds none out; add validation.share=0.1" in found["checkpoint.best"]
    resolve(
        read_values("image-classifier", ["data=digits", best, "validation.share=0.1"]), digits_store
    )


def test_what_deepspeed_knows_is_passed_on(digits_store):
    given = {
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0,
                              "offload_optimizer": {"device": "cpu"}},
        "comms_logger": {"enabled": True}, "communication_data_type": "bf16", "steps_per_print": 100,
    }  # fmt: skip
    values = read_values("image-classifier", ["data=digits"])
    assert resolve(values | {"deepspeed": given}, digits_store).deepspeed == given


def test_what_is_resolved_is_complete(digits_store):
    config = resolve(
        read_values("image-classifier", ["data=digits", "optimizer.lr=2e-3"]), digits_store
    )
    assert config.generator["name"] == "image-classifier"
    assert len(config.generator) > 1
    assert config.optimizer == {"lr": 0.002}


def test_a_yaml_file_and_overrides(digits_store, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("generator: {name: image-classifier}\ndata: digits\nsteps: 5\n")
    config = resolve(read_values(str(path), ["steps=7", "scale.workers=2"]), digits_store)
    assert (config.steps, config.scale.workers) == (7, 2)


@pytest.mark.parametrize(("content", "message"), [
    (": :", "not valid YAML"),
    ("- 1", "must hold keys and values"),
    (None, "cannot read"),
])  # fmt: skip
def test_a_bad_file_is_one_clear_error(tmp_path, content, message):
    path = tmp_path / "run.yaml"
    if content:
        path.write_text(content)
    with pytest.raises(RequestError, match=message):
        read_values(str(path), [])


def test_the_generator_must_be_named_and_known(digits_store):
    with pytest.raises(UnknownName, match="did you mean 'image-vae'"):
        resolve({"generator": {"name": "image-vea"}, "data": "digits"}, digits_store)
    with pytest.raises(InvalidConfig, match="is required and missing"):
        resolve({"generator": {}, "data": "digits"}, digits_store)


def test_a_word_must_be_a_setting():
    with pytest.raises(RequestError, match="write key=value"):
        read_values("x", ["steps"])
    with pytest.raises(RequestError, match="steps is a value"):
        put({"steps": 3}, "steps.more", 1)


@pytest.mark.parametrize(("text", "value"), [
    ("1e-3", 0.001), ("3", 3), ("true", True), ("name", "name"), ("[1, 2]", [1, 2]), ("[1", "[1"), ("", None),
])  # fmt: skip
def test_values_are_read_as_a_person_means_them(text, value):
    assert parse_value(text) == value
