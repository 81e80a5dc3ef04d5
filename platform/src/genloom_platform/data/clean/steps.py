"""The steps of cleaning that a dataset's columns ask for."""

from collections.abc import Mapping
from functools import partial

from genloom.data import Column
from genloom.errors import RequestError
from genloom_platform.data.clean.audio import clean_audio
from genloom_platform.data.clean.images import clean_image
from genloom_platform.data.clean.rules import Cleaning
from genloom_platform.data.clean.text import clean_text
from genloom_platform.data.item import Step, each


def cleaning_steps(rules: Cleaning, columns: Mapping[str, Column]) -> list[Step]:
    """One step for each column that a rule looks at.

    Raises:
        RequestError: Rules for a kind of column that there is none of.
    """
    has = {column.kind for column in columns.values()}
    for group, kind in (("images", "image"), ("text", "text"), ("audio", "audio")):
        if getattr(rules, group).model_fields_set and kind not in has:
            raise RequestError(
                f"clean.{group}: there is no column of kind {kind}, but {', '.join(sorted(has))}; leave it out"
            )
    steps: list[Step] = []
    for name, column in columns.items():
        if column.kind == "image" and rules.images.model_fields_set:
            steps.append(each(partial(clean_image, rules.images, name)))
        elif column.kind == "text" and rules.text.model_fields_set:
            steps.append(each(partial(clean_text, rules.text, name)))
        elif column.kind == "audio" and rules.audio.model_fields_set:
            steps.append(each(partial(clean_audio, rules.audio, name)))
    return steps
