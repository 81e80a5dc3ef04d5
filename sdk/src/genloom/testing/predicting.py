"""What prediction asks: an answer for each example, the same in any batch, without the target."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from genloom.data import Row
from genloom.generator import Example, Predictor
from genloom.predictions import Label, Prediction
from genloom.testing.case import BATCH, SEED, Case, travelled
from genloom.testing.prompts import example_prompts
from genloom.testing.rules import Broken, Rule, rule


@rule(
    "predict",
    "predict(model, batch) gives a Prediction for each example, in order, of rows that lack the target",
    "return a list as long as the batch; let prepare take a row without target (`if 'label' in row`)",
    needs=("loss", "makes"),
)
def predict(case: Case) -> str:
    """Of a batch, and of one row."""
    for count in (BATCH, 1):
        made: Any = _answers(case, _unlabelled(case, count))
        if len(made) != count:
            raise Broken(f"{count} examples gave {len(made)} predictions")
        wrong = [type(answer).__name__ for answer in made if not isinstance(answer, Prediction)]
        if wrong:
            raise Broken(
                f"an answer is {wrong[0]}", "return genloom.Label, Value, Embedding or Ranking"
            )
    return type(_answers(case, _unlabelled(case, 1))[0]).__name__


@rule(
    "predictions travel",
    "a prediction is the same after its way through JSON; probabilities sum to 1",
    "give finite Python numbers (.tolist()), and normalise probabilities",
    needs=("predict",),
)
def predictions_travel(case: Case) -> str:
    """To JSON and back."""
    for answer in _answers(case, _unlabelled(case, BATCH)):
        if type(answer).model_validate_json(answer.model_dump_json()) != answer:
            raise Broken(f"{answer!r} is another after JSON")
        if isinstance(answer, Label) and answer.probabilities:
            total = sum(answer.probabilities)
            if abs(total - 1) > 1e-3 or not 0 <= answer.index < len(answer.probabilities):
                raise Broken(
                    f"class {answer.index} of probabilities {answer.probabilities}, sum {total:.4f}"
                )
    return ""


@rule(
    "same in a batch",
    "an example's prediction is the same whatever else is in the batch",
    "let no example touch another in evaluation mode; draw no random numbers",
    needs=("predictions travel",),
)
def same_in_batch(case: Case) -> str:
    """Alone and among others, twice."""
    examples = _unlabelled(case, BATCH)
    together = _answers(case, examples)
    for place, example in enumerate(examples):
        (alone,) = _answers(case, [example], seed=SEED + 1)
        if not _close(alone.model_dump(), together[place].model_dump()):
            raise Broken(f"row {place} alone: {alone!r}; among {BATCH}: {together[place]!r}")
    return ""


@rule(
    "prompts",
    "a predictor's Prompt has the fields of a row without the target, so that prepare takes both",
    "write a field in Prompt for each column of Data but the target, under the same name",
    needs=("prompt's fields", "predict"),
)
def prompts(case: Case) -> str:
    """A prompt through JSON, prepare and predict."""
    required = {name for name, field in case.cls.Data.model_fields.items() if field.is_required()}
    missing = required - {_target(case)} - set(case.cls.Prompt.model_fields)
    if missing:
        raise Broken(f"Prompt lacks {', '.join(sorted(missing))}")
    asked = example_prompts(case)
    rows: list[Mapping[str, Any]] = []
    for prompt in asked:
        back: Any = case.cls.Prompt.model_validate_json(prompt.model_dump_json())
        if back != prompt:
            raise Broken(f"{prompt!r} became {back!r}")
        case.trainable.check_prompt(prompt, case.data)
        given = {
            name: getattr(back, name) for name in case.cls.Data.model_fields if hasattr(back, name)
        }
        rows.append({name: value for name, value in given.items() if value is not None})
    answers = [_answers(case, [case.example(place, row)])[0] for place, row in enumerate(rows)]
    return f"{len(answers)} of them"


def _target(case: Case) -> str:
    assert isinstance(case.trainable, Predictor)
    return case.trainable.target


def _unlabelled(case: Case, count: int) -> Sequence[Example]:
    target = _target(case)
    rows = [case.rows[place % len(case.rows)] for place in range(count)]
    bare = [{name: value for name, value in row.items() if name != target} for row in rows]
    return [case.example(place, Row(row)) for place, row in enumerate(bare)]


def _answers(case: Case, examples: Sequence[Example], seed: int = SEED) -> Sequence[Prediction]:
    assert isinstance(case.trainable, Predictor)
    case.model.eval()
    with case.torch.no_grad(), case.seeded(seed):
        return case.trainable.predict(case.model, case.trainable.collate(travelled(examples)))


def _close(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Equal but for rounding."""
    for name, value in one.items():
        if isinstance(value, (float, tuple)):
            ours, theirs = np.asarray(value), np.asarray(other[name])
            if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-4, atol=1e-5):
                return False
        elif value != other[name]:
            return False
    return True


RULES: tuple[Rule, ...] = (predict, predictions_travel, same_in_batch, prompts)
