"""Predictors: accuracy, precision, recall and F1 against the dataset's own target."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import genloom
from genloom.errors import RequestError
from genloom_platform.evaluate import evaluate
from genloom_platform.evaluate.measured import resampled, share


def score(
    predictor: genloom.Predictor,
    module: Any,
    facts: Any,
    batches: Iterable[list[dict[str, Any]]],
    device: str = "cpu",
    on: str = "",
) -> dict[str, float]:
    """Predict every row and compare; precision, recall and F1 are means over the classes (macro).

    Where it is said what the rows are, each comes with an interval: Wilson's for accuracy, the bootstrap's
    over the rows for the others.

    Raises:
        RequestError: The rows lack the target, or the answers are no labels.
    """
    answers: list[int] = []
    truth: list[int] = []
    for rows in batches:
        if predictor.target not in rows[0]:
            raise RequestError(
                f"the dataset has no column {predictor.target!r} to compare the predictions with"
            )
        blind = [{key: value for key, value in row.items() if key != predictor.target} for row in rows]
        predictions = predictor.predict(module, evaluate.as_batch(predictor, facts, blind, device))
        for prediction, row in zip(predictions, rows, strict=True):
            if not isinstance(prediction, genloom.Label):
                raise RequestError(
                    f"{type(predictor).__name__} answers {type(prediction).__name__}, not labels"
                )
            answers.append(prediction.index)
            truth.append(row[predictor.target])
    guess, target = np.asarray(answers), np.asarray(truth)
    accuracy = share(int((guess == target).sum()), len(target), on)
    return {"accuracy": accuracy} | resampled((guess, target), macro, ["precision", "recall", "f1"], on)


def macro(guess: NDArray[Any], target: NDArray[Any]) -> NDArray[Any]:
    """Precision, recall and F1, each the mean over the classes that occur, of labels [..., rows].

    Returns:
        [3, ...]: a class that is never guessed has precision 0, one that never occurs recall 0.
    """
    classes = int(max(guess.max(), target.max())) + 1
    right = _counts(np.where(guess == target, guess, classes), classes)
    guessed, there = _counts(guess, classes), _counts(target, classes)
    occurs = (guessed + there) > 0
    each = (right / guessed.clip(1), right / there.clip(1), 2 * right / (guessed + there).clip(1))
    return np.stack([(one * occurs).sum(-1) / occurs.sum(-1) for one in each])


def _counts(labels: NDArray[Any], classes: int) -> NDArray[Any]:
    """How often each class occurs, [..., classes]; larger labels are left out."""
    flat = labels.reshape(-1, labels.shape[-1])
    places = flat + (classes + 1) * np.arange(len(flat))[:, None]
    counted = np.bincount(places.ravel(), minlength=len(flat) * (classes + 1))
    return counted.reshape(*labels.shape[:-1], classes + 1)[..., :classes]
