"""A served model, without HTTP and without Ray."""

import numpy as np
import pytest
import rollout_toys as toys

import genloom
from genloom.errors import InvalidConfig, PluginError, PromptError, RequestError
from genloom_platform.serve import model as model_module
from genloom_platform.serve import replica


def test_a_batch_gives_each_prompt_its_sample(drawer):
    prompts = drawer.read([{"seed": seed} for seed in range(16)])
    together = drawer.compute(prompts)
    assert together == [drawer.compute([prompt])[0] for prompt in prompts]
    assert len(set(together)) == 16


def test_a_prompt_that_fails_the_batch_fails_alone(drawer):
    results = drawer.compute(drawer.read([{"seed": 1}, {"label": 7}, {"label": 8}, {"seed": 2}]))
    assert [type(result) for result in results] == [
        genloom.Image,
        RuntimeError,
        PromptError,
        genloom.Image,
    ]


def test_a_generator_that_gives_too_few_samples_is_found_out(drawer, monkeypatch):
    trainable = type(drawer.loaded.trainable)
    monkeypatch.setattr(trainable, "generate", lambda self, model, prompts: [])
    (result,) = drawer.compute(drawer.read([{}]))
    assert isinstance(result, PluginError)


def test_pictures_that_do_not_stack_are_predicted_one_by_one(brightness):
    white = [genloom.Image(np.full((side, side, 3), 255, np.uint8)) for side in (4, 5)]
    results = brightness.compute(brightness.read([{"image": image.to_json()} for image in white]))
    assert [result.value for result in results] == [1.0, 1.0]


def test_media_are_bounded_as_they_are_in_memory(drawer, monkeypatch):
    monkeypatch.setattr(model_module, "MAX_MEDIA_BYTES", 2_500_000)
    picture = genloom.Image(np.zeros((1000, 1000, 1), np.uint8)).to_json()
    assert len(picture["data"]) < 10_000
    assert len(drawer.read([{"like": picture}] * 2)) == 2
    with pytest.raises(InvalidConfig, match=r"prompts\.2: with it the request holds over"):
        drawer.read([{"like": picture}] * 256)


def test_a_model_is_warm_before_it_is_asked_and_one_that_fails_is_told(drawer, brightness):
    warmed: list[int] = []
    compute = drawer.compute
    drawer.compute = lambda prompts: warmed.append(len(prompts)) or compute(prompts)
    replica.warm(drawer)
    assert warmed == [1]
    replica.warm(brightness)  # its prompt needs a picture, so there is none of defaults
    with pytest.raises(
        RequestError, match=r"fails on the prompt of all defaults \(RuntimeError: it cannot"
    ):
        replica.warm(model_module.served(toys.unwarm(), 0))
