"""One model's form, its answers, and the same request as `curl` and Python."""

import asyncio
import html
import logging
import re
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import TYPE_CHECKING, Any

import gradio as gr

from genloom.errors import InvalidConfig, PromptError
from genloom_platform.serve.asking import ask, begin
from genloom_platform.serve.catalog import Catalog
from genloom_platform.serve.errors import Refusal
from genloom_platform.serve.model import Card
from genloom_platform.serve.playground import snippets, widgets
from genloom_platform.serve.playground.answers import Answers
from genloom_platform.serve.playground.fields import Field, Unreadable, fields_of, number_of, prompt_of
from genloom_platform.serve.playground.sessions import COOKIE, Sessions
from genloom_platform.serve.seen import place_of

if TYPE_CHECKING:
    from genloom_platform.serve.asking import Backend

log = logging.getLogger("genloom.serve")


class Panel:
    """One model's part of the page."""

    def __init__(
        self, name: str, catalog: Catalog, backend: "Backend", sessions: Sessions | None
    ) -> None:
        card = catalog.cards[name]
        self._name, self._catalog, self._made_for = name, catalog, card
        self._backend, self._sessions = backend, sessions
        self._fields: dict[Any, Field] = {}
        self._title = gr.HTML(_title(card), elem_classes="model")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                self._form(fields_of(card))
            with gr.Column(scale=3, min_width=300):
                self._answers = Answers(card)
                program = gr.Accordion("The same by program", open=True, elem_classes="program")
                with program, gr.Tabs():
                    with gr.Tab("curl"):
                        self._curl = _code("shell", "curl")
                    with gr.Tab("Python"):
                        self._python = _code("python", "python")

    @property
    def _card(self) -> Card:
        """The version that is served now: it may be another than when the page was made."""
        return self._catalog.cards.get(self._name, self._made_for)

    def listen(self, blocks: gr.Blocks) -> None:
        """Answer to what a visitor does."""
        options: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
        codes = [self._curl, self._python]
        inputs: Any = {*self._fields, *self._drawn}
        changes: list[Any] = [part.change for part in inputs]
        gr.on(
            [blocks.load, *changes],
            self._write,
            inputs,
            codes,
            queue=False,
            show_progress="hidden",
            **options,
        )
        shown: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        gr.on([blocks.load], lambda: _title(self._card), None, self._title, **shown)
        outputs = [self._error, *self._answers.parts]
        gr.on([self._button.click], self._answer, inputs, outputs, show_progress="minimal", **options)

    def _form(self, fields: Sequence[Field]) -> None:
        group: tuple[str, ...] = ()
        for field in fields:
            if field.path[:-1] != group:
                group = field.path[:-1]
                if group:
                    gr.HTML(f"<h3>{html.escape(' · '.join(group).replace('_', ' '))}</h3>")
            self._fields[widgets.widget(field)] = field
            if field.kind in widgets.SAMPLES and field.info:  # such a part shows no text of its own
                gr.HTML(f"<p>{html.escape(field.info)}</p>", elem_classes="info")
        self._drawn: list[Any] = []
        if self._card.kind == "generator":
            with gr.Row(elem_classes="pair"):
                info = "Empty: drawn anew each time."
                self._seed = gr.Textbox(
                    "", label="seed", info=info, placeholder="drawn", max_lines=1, min_width=120
                )
                most = Answers.most(self._card)
                self._count = gr.Slider(
                    1, most, value=1, step=1, label="count", min_width=120, buttons=[]
                )
            self._drawn = [self._seed, self._count]
        verb = "Generate" if self._card.kind == "generator" else "Predict"
        self._button = gr.Button(verb, variant="primary", size="lg")
        self._error = gr.HTML(visible=False, elem_classes="error")

    def _prompts(self, values: dict[Any, Any], named: bool = False) -> list[dict[str, Any]]:
        """The prompts that the form holds: as many as it counts, with one seed after the other."""
        filled = [
            (field, widgets.read(field, values[part], named)) for part, field in self._fields.items()
        ]
        prompt = prompt_of(filled)
        if self._card.kind == "predictor":
            return [prompt]
        seed, count = values[self._seed], int(values[self._count] or 1)
        count = max(1, min(count, Answers.most(self._card)))
        if not str(seed or "").strip():
            return [dict(prompt) for _ in range(count)]
        first = number_of(seed)
        seeds = [first + index if isinstance(first, int) else first for index in range(count)]
        return [prompt | {"seed": seed} for seed in seeds]

    async def _write(self, values: dict[Any, Any], request: gr.Request) -> list[str]:
        """What is in the form, as `curl` and Python."""
        try:
            prompts = self._prompts(values, named=True)
        except Unreadable as error:
            return [f"# {error}"] * 2
        asked = request.request
        assert asked is not None  # there is none where a program calls the form, and none can
        question = snippets.Question(
            url=f"{asked.url.scheme}://{request.headers['host']}",
            kind=self._card.kind,
            model=self._name,
            prompts=prompts,
            makes=self._card.makes,
            locked=self._sessions is not None,
        )
        return [snippets.curl(question), snippets.python(question)]

    async def _answer(
        self, values: dict[Any, Any], request: gr.Request
    ) -> AsyncGenerator[dict[Any, Any]]:
        """Ask the model, and show its answers, or at the form why there are none."""
        # Each update holds all that it shows: where several come at once, the page may drop but the last.
        told: str | None = None
        try:
            prompts = await asyncio.to_thread(self._prompts, values)
            with self._asking(request):
                async with aclosing(self._asked(prompts)) as answers:
                    async for updates in answers:
                        yield {self._error: gr.update(visible=False), **updates}
        except (InvalidConfig, PromptError, Refusal, Unreadable, PermissionError) as error:
            told = str(error)
        except Exception as error:
            number = secrets.token_hex(4)
            name, place = self._card.full_name, place_of(error)
            log.error("failure %s: the playground's form of %s: %s", number, name, place)
            told = (
                f"the page failed on this answer; the endpoint's log tells why, under failure {number}"
            )
        if told is not None:
            yield {self._error: gr.update(value=_sentence(told), visible=True)}

    async def _asked(self, prompts: list[dict[str, Any]]) -> AsyncGenerator[dict[Any, Any]]:
        if self._card.kind == "predictor" or self._card.makes != "text":
            answers = await ask(self._backend, self._card, prompts)
            yield await asyncio.to_thread(self._answers.shown, answers)
            return
        texts: list[tuple[int | None, str]] = []
        for prompt in prompts:
            begun = await begin(self._backend, self._card, prompt)
            texts.append((begun.seed, ""))
            try:
                async for piece in begun.pieces():
                    texts[-1] = begun.seed, texts[-1][1] + piece
                    yield self._answers.texts(texts)
            finally:
                await begun.close()

    def _asking(self, request: gr.Request) -> AbstractContextManager[None]:
        if self._sessions is None:
            return nullcontext()
        return self._sessions.asking(request.cookies.get(COOKIE, ""))


def _title(card: Card) -> str:
    about = " ".join(str(card.prompt_schema.get("description", "")).split())
    what = f"makes {card.makes}" if card.kind == "generator" else f"predicts {card.makes}"
    return (
        f'<div class="title"><h2>{html.escape(card.name)}</h2>'
        f'<span class="chip">version {html.escape(card.version)}</span>'
        f'<span class="chip soft">{html.escape(what)}</span></div><p>{html.escape(about)}</p>'
    )


def _code(language: str, name: str) -> Any:
    shown: Any = {"language": language, "buttons": ["copy"], "elem_classes": name}
    return gr.Code(
        lines=3, wrap_lines=True, show_line_numbers=False, show_label=False, interactive=False, **shown
    )


def _sentence(message: str) -> str:
    """What the endpoint says, once for all prompts of the form and without their numbers."""
    lines = [re.sub(r"prompts\.\d+(: |\.)", "", line).strip() for line in message.split("\n")]
    lines = [line for line in lines if not re.fullmatch(r"the request to .* has \d+ errors?:", line)]
    return f'<p role="alert">{"<br>".join(map(html.escape, dict.fromkeys(lines)))}</p>'
