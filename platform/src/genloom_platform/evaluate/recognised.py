"""Conditional generators: how often a registered predictor recognises a sample as what was asked for."""

from typing import Any

import torch

import genloom
from genloom.errors import RequestError
from genloom_platform.evaluate import evaluate
from genloom_platform.evaluate.measured import share

BATCH_ROWS = 100


def recognised(model: genloom.LoadedModel, judge: genloom.LoadedModel, count: int) -> dict[str, float]:
    """Draw samples of every class in turn, seeds 0, 1, 2 …, and let the judge name them.

    Returns:
        The share that was recognised, over all ("recognised") and of the worst class
        ("recognised_worst_class"). The first has Wilson's interval; the least of several shares has none.

    Raises:
        RequestError: The generator takes no label, or the judge does not name labels.
    """
    generator, predictor = model.trainable, judge.trainable
    if not isinstance(generator, genloom.Generator) or not isinstance(predictor, genloom.Predictor):
        raise RequestError(f"{model.name} must be a generator and {judge.name} a predictor")
    target = predictor.target
    classes = len(getattr(judge.data, target).names)
    if target not in type(generator).Prompt.model_fields:
        raise RequestError(
            f"the prompts of {model.name} have no {target!r}; it cannot be asked for a class"
        )
    asked = [number % classes for number in range(count)]
    prompts = [
        type(generator).Prompt(**{target: label, "seed": seed}) for seed, label in enumerate(asked)
    ]
    right = torch.zeros(classes)
    with torch.inference_mode():
        for at in range(0, count, BATCH_ROWS):
            samples = generator.generate(model.module, prompts[at : at + BATCH_ROWS])
            rows: list[dict[str, Any]] = [{_input(predictor): sample} for sample in samples]
            answers = predictor.predict(judge.module, evaluate.as_batch(predictor, judge.data, rows))
            for answer, label in zip(answers, asked[at : at + BATCH_ROWS], strict=True):
                right[label] += isinstance(answer, genloom.Label) and answer.index == label
    of_each = torch.bincount(torch.tensor(asked), minlength=classes)
    return {
        "recognised": share(int(right.sum()), count, f"{count:,} samples that {judge.name} judged"),
        "recognised_worst_class": (right / of_each.clamp(min=1)).min().item(),
    }


def _input(predictor: genloom.Predictor) -> str:
    """The field of the judge's prompt that takes the sample."""
    fields = [name for name in type(predictor).Prompt.model_fields if name != "seed"]
    if len(fields) != 1:
        raise RequestError(f"the judge must take one input beside its seed, not {', '.join(fields)}")
    return fields[0]
