"""Predictors: accuracy, precision, recall and F1 against the dataset's own target."""

from collections.abc import Iterable
from typing import Any

import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

import genloom
from genloom.errors import RequestError
from genloom_platform.evaluate import evaluate


def score(
    predictor: genloom.Predictor,
    module: Any,
    facts: Any,
    batches: Iterable[list[dict[str, Any]]],
    device: str = "cpu",
) -> dict[str, float]:
    """Predict every row and compare; precision, recall and F1 are means over the classes (macro).

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
    classes = len(getattr(facts, predictor.target).names)
    guess, target = torch.tensor(answers), torch.tensor(truth)
    return {
        "accuracy": multiclass_accuracy(guess, target, classes, average="micro").item(),
        "precision": multiclass_precision(guess, target, classes).item(),
        "recall": multiclass_recall(guess, target, classes).item(),
        "f1": multiclass_f1_score(guess, target, classes).item(),
    }
