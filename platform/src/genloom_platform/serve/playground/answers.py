"""What a model answered, as the page shows it: pictures, texts, players, scores, bars."""

import base64
import html
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.utils import get_upload_folder

from genloom import Image, Notes
from genloom_platform.serve.model import Card
from genloom_platform.serve.playground.hearing import heard

MAX_COUNT = {"image": 16}
FEW = 4
"""Texts, sounds or scores at once."""
SMALL_PIXELS = 128
"""Pictures with shorter sides are enlarged without blur."""
MAX_BARS = 5


class Answers:
    """The parts of the page that show one model's answers."""

    def __init__(self, card: Card) -> None:
        self.makes = card.makes if card.kind == "generator" else "prediction"
        self._names = card.classes.get(card.makes, ()) if card.kind == "predictor" else ()
        match self.makes:
            case "image":
                gallery = gr.Gallery(
                    show_label=False,
                    columns=4,
                    object_fit="contain",
                    height="auto",
                    format="png",
                    buttons=["download", "fullscreen"],
                    interactive=False,
                    elem_classes="pictures",
                )
                self.parts: list[Any] = [gallery]
            case "audio":
                self.parts = [
                    _hidden(n, gr.Audio, type="filepath", interactive=False) for n in range(FEW)
                ]
            case "notes":
                self.parts = [
                    gr.HTML(visible=False, elem_classes="scores"),
                    *(gr.Audio(visible=False, type="filepath", interactive=False) for _ in range(FEW)),
                    gr.File(label="Scores", file_count="multiple", interactive=False, visible=False),
                ]
            case "prediction":
                self.parts = [
                    gr.Label(label="Answer", num_top_classes=MAX_BARS, elem_classes="bars"),
                    gr.JSON(label="Answer", visible=False),
                ]
            case _:
                options: Any = {"lines": 8, "max_lines": 24, "interactive": False, "buttons": ["copy"]}
                self.parts = [_hidden(n, gr.Textbox, **options) for n in range(FEW)]

    @staticmethod
    def most(card: Card) -> int:
        """How many answers are shown at once."""
        return MAX_COUNT.get(card.makes, FEW) if card.kind == "generator" else 1

    def shown(self, answers: Sequence[Mapping[str, Any]]) -> dict[Any, Any]:
        """What the parts become, by part."""
        match self.makes:
            case "image":
                return self._pictures(answers)
            case "audio":
                return self._each([(each["seed"], _file(each, ".wav")) for each in answers])
            case "notes":
                return self._scores(answers)
            case "prediction":
                return self._prediction(answers[0])
            case _:
                return self.texts([(each["seed"], str(each["sample"])) for each in answers])

    def texts(self, made: Sequence[tuple[int | None, str]]) -> dict[Any, Any]:
        """Texts, whole or as far as they are written, each with its seed."""
        return self._each(made)

    def _each(self, values: Sequence[tuple[int | None, Any]]) -> dict[Any, Any]:
        updates: dict[Any, Any] = {}
        for index, part in enumerate(self.parts):
            if index < len(values):
                seed, value = values[index]
                updates[part] = gr.update(value=value, label=_caption(seed), visible=True)
            else:
                updates[part] = gr.update(value=None, visible=index == 0)
        return updates

    def _pictures(self, answers: Sequence[Mapping[str, Any]]) -> dict[Any, Any]:
        images = [Image.from_json(each["sample"]).array for each in answers]
        rgb = [np.repeat(image, 3, 2) if image.shape[2] == 1 else image for image in images]
        captions = [_caption(each["seed"]) for each in answers]
        small = all(max(image.shape[:2]) < SMALL_PIXELS for image in images)
        classes = ["pictures", "small"] if small else ["pictures"]
        value = list(zip(rgb, captions, strict=True))
        columns = min(4, len(value)) if len(value) != 1 else 1
        return {self.parts[0]: gr.update(value=value, elem_classes=classes, columns=columns)}

    def _scores(self, answers: Sequence[Mapping[str, Any]]) -> dict[Any, Any]:
        rolls = "".join(
            f"<figure>{_roll(Notes.from_json(each['sample']))}"
            f"<figcaption>{_caption(each['seed'])}</figcaption></figure>"
            for each in answers
        )
        files = [_file(each, ".mid") for each in answers]
        roll, *players, scores = self.parts
        return {
            roll: gr.update(value=rolls, visible=True),
            **{player: gr.update(value=None, visible=False) for player in players},
            **{player: _played(each) for player, each in zip(players, answers, strict=False)},
            scores: gr.update(value=files, visible=True),
        }

    def _prediction(self, answer: Mapping[str, Any]) -> dict[Any, Any]:
        bars, rest = self.parts
        if answer["kind"] in ("label", "value"):
            shown = (
                _bars(answer, self._names) if answer["kind"] == "label" else f"{answer['value']:.6g}"
            )
            return {bars: gr.update(value=shown, visible=True), rest: gr.update(visible=False)}
        return {bars: gr.update(visible=False), rest: gr.update(value=dict(answer), visible=True)}


def _hidden(index: int, kind: Any, **options: Any) -> Any:
    """One of several parts alike; only the first is there before there are answers."""
    return kind(label="Answer", visible=index == 0, **options)


def _caption(seed: int | None) -> str:
    return "Answer" if seed is None else f"seed {seed}"


def _bars(answer: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The likeliest classes by name; by index where the dataset has no names for them."""
    probabilities: Sequence[float] = answer["probabilities"]
    known = dict(enumerate(names)) | ({answer["index"]: answer["name"]} if answer["name"] else {})
    called = [known.get(index) or f"class {index}" for index in range(len(probabilities))]
    if not probabilities:
        return known.get(answer["index"]) or f"class {answer['index']}"
    if len(set(called)) < len(called):  # the page shows one bar a name
        called = [f"{name} ({index})" for index, name in enumerate(called)]
    return dict(zip(called, probabilities, strict=True))


def _file(answer: Mapping[str, Any], suffix: str) -> str:
    """The sample as a file in the page's folder, which is cleared."""
    folder = tempfile.mkdtemp(dir=get_upload_folder())
    path = Path(folder) / f"seed-{answer['seed']}{suffix}"
    path.write_bytes(base64.b64decode(answer["sample"]["data"]))
    return str(path)


def _played(answer: Mapping[str, Any]) -> Any:
    """A score's player; a browser plays no MIDI itself."""
    sound = heard(Notes.from_json(answer["sample"])).to_json()
    value = _file({"seed": answer["seed"], "sample": sound}, ".wav")
    return gr.update(value=value, label=_caption(answer["seed"]), visible=True)


def _roll(score: Notes) -> str:
    """A score as a picture: time to the right, pitch upwards."""
    notes = score.notes
    if not notes:
        return "<p>No note.</p>"
    end = max(note.start_s + note.duration_s for note in notes) or 1
    low, high = min(note.pitch for note in notes) - 1, max(note.pitch for note in notes) + 2
    bars = "".join(
        f'<rect x="{100 * note.start_s / end:.2f}" y="{high - note.pitch - 1}" '
        f'width="{max(100 * note.duration_s / end, 0.4):.2f}" height="0.9" rx="0.2"/>'
        for note in notes
    )
    title = html.escape(f"{len(notes)} notes in {end:.1f} s")
    return (
        f'<svg viewBox="0 0 100 {high - low}" preserveAspectRatio="none" role="img">'
        f"<title>{title}</title>{bars}</svg>"
    )
