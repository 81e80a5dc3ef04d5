"""Options of a deployment for speed, on a real small network of pictures and one of texts."""

import pytest
import serve_toys as toys
import torch
from torch import nn

import genloom
from genloom import ClassColumn, ImageColumn, TextColumn
from genloom.errors import RequestError
from genloom.registry import create
from genloom_platform.evaluate.speed import compared
from genloom_platform.serve.speed import Speed, answers, apply, prompts

PICTURES = {
    "image": ImageColumn(height=8, width=8, channels=1),
    "label": ClassColumn(names=tuple("0123456789")),
}


def loaded(name: str, facts, **fields) -> genloom.LoadedModel:
    trainable = create(name, fields)
    data = trainable.Data.model_validate(facts)
    torch.manual_seed(0)
    return genloom.LoadedModel(f"{name}@1", trainable, trainable.build(data).eval(), data)


def vae() -> genloom.LoadedModel:
    return loaded("image-vae", PICTURES, width=8)


def classifier() -> genloom.LoadedModel:
    return loaded("image-classifier", PICTURES, width=8)


def writer() -> genloom.LoadedModel:
    text = TextColumn(vocabulary=tuple("abcdefgh "), max_chars=20)
    return loaded("text-rnn", {"text": text}, width=16)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("make", [vae, classifier])
def test_another_precision_changes_pictures_and_labels_a_little(make, precision):
    plain, fast = apply(make(), Speed()), apply(make(), Speed(precision=precision))
    asked = prompts(plain, 16)
    equal, difference = compared(answers(plain, asked), answers(fast, asked))
    assert 0 < difference < (8 if make is vae else 0.05)
    assert equal < 1


def test_without_an_option_a_model_answers_as_it_was_trained():
    model = vae()
    asked = prompts(model, 4)
    before = answers(model, asked)
    assert answers(apply(model, Speed()), asked) == before


def test_bf16_halves_the_weights_and_prompts_stay_as_they_are():
    fast = apply(vae(), Speed(precision="bf16"))
    assert {weight.dtype for weight in fast.module.parameters()} == {torch.bfloat16}
    (one,) = answers(fast, prompts(fast, 1))
    assert one.array.shape == (8, 8, 1)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_model_of_texts_writes_in_another_precision(precision):
    short = {"max_chars": 12}
    fast = apply(writer(), Speed(precision=precision, prompt=short))
    texts = answers(fast, prompts(fast, 3, short))
    assert len({text.text for text in texts}) == 3


def test_the_network_that_is_called_is_the_one_that_is_compiled():
    compiled = apply(vae(), Speed(compile=True, batches=(2,)))
    assert compiled.module.decoder._compiled_call_impl is not None
    assert compiled.module.encoder._compiled_call_impl is None
    asked = prompts(compiled, 2)
    assert compared(answers(vae(), asked), answers(compiled, asked))[1] < 0.1
    with torch.compiler.set_stance("fail_on_recompile"):
        answers(compiled, asked)


def test_what_a_model_cannot_do_is_told_before_it_serves():
    with pytest.raises(RequestError, match=r"drawer@1 does not work with bf16: .*serve it in fp32"):
        apply(toys.drawer(), Speed(precision="bf16"))
    with pytest.raises(RequestError, match=r"counter@2 has no linear layer.*give fp32 or bf16"):
        apply(toys.counter(), Speed(precision="int8"))
    with pytest.raises(RequestError, match=r"device = cuda: this process has no GPU"):
        apply(toys.drawer(), Speed(device="cuda"))


class Shy(toys.Counter):
    """Asks for what no dataset tells."""

    class Prompt(genloom.Prompt):
        word: str

    def generate(self, model, prompts):
        if prompts[0].word != "please":
            raise genloom.PromptError("say please")
        model(torch.zeros(1))
        return super().generate(model, prompts)


def test_a_prompt_that_cannot_be_made_up_is_asked_for_where_the_model_must_be_tried(monkeypatch):
    monkeypatch.setattr(toys.Counter, "generate", lambda self, model, asked: [genloom.Text("")])
    shy = genloom.LoadedModel("shy@1", Shy(), nn.Identity(), None)
    assert apply(shy, Speed()).module is shy.module
    with pytest.raises(RequestError, match=r"word must be given.*speed\.prompt"):
        apply(shy, Speed(precision="bf16"))
    with pytest.raises(RequestError, match="say please"):
        apply(shy, Speed(precision="bf16", prompt={"word": "now"}))
    apply(shy, Speed(precision="bf16", prompt={"word": "please"}, batches=(1,)))


def test_an_option_that_there_is_not_is_refused():
    for wrong in ({"precision": "int4"}, {"compiled": True}, {"batches": (0,)}):
        with pytest.raises(ValueError, match="validation error"):
            Speed.model_validate(wrong)
