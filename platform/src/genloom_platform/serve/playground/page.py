"""The page, in Gradio: a tab for each model, or a list to choose from where there are many."""

import asyncio
import html
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from genloom_platform.serve import playground
from genloom_platform.serve.body import MAX_BODY_BYTES
from genloom_platform.serve.catalog import Catalog
from genloom_platform.serve.model import Card
from genloom_platform.serve.playground.sessions import Sessions

if TYPE_CHECKING:
    from genloom_platform.serve.asking import Backend

MAX_TABS = 5
CLEAR_EVERY_S = 60
KEEP_S = 900
"""How long the page's files live: uploads, and what was made."""
MAX_QUEUE = 64
"""Questions of all visitors that wait."""
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


class Maker:
    """What makes the page of an endpoint."""

    def __init__(self, backend: "Backend", catalog: Catalog) -> None:
        self._backend, self._catalog = backend, catalog

    def shape(self) -> Any:
        """What a page is made of: where it changes, another has to be made. Versions alone do not count."""
        return [(name, card.kind, card.makes, card.prompt_schema) for name, card in self._cards()]

    async def make(self, folder: Path, sessions: Sessions | None) -> FastAPI:
        """A page whose files lie in a folder."""
        # Gradio's files lie where this says, for the whole process: a process has one page.
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        return await asyncio.to_thread(_mounted, self._backend, self._catalog, sessions)

    def _cards(self) -> list[tuple[str, Card]]:
        return list(self._catalog.cards.items())


def _mounted(backend: "Backend", catalog: Catalog, sessions: Sessions | None) -> FastAPI:
    import gradio as gr

    style = resources.files(playground).joinpath("page.css").read_text()
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    return gr.mount_gradio_app(
        app,
        _blocks(backend, catalog, sessions),
        "/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=MAX_BODY_BYTES,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=_theme(),
        css=style,
    )


def _blocks(backend: "Backend", catalog: Catalog, sessions: Sessions | None) -> Any:
    import gradio as gr

    from genloom_platform.serve.playground.panel import Panel

    made: list[Panel] = []
    blocks = gr.Blocks(
        title="Genloom playground",
        analytics_enabled=False,
        delete_cache=(CLEAR_EVERY_S, KEEP_S),
        fill_width=False,
    )
    with blocks:
        gr.HTML(_header(closed=sessions is not None), elem_classes="head")
        names = list(catalog.cards)
        if not names:
            gr.HTML("<p>No model is served here.</p>")
        elif len(names) == 1:
            made.append(Panel(names[0], catalog, backend, sessions))
        elif len(names) <= MAX_TABS:
            with gr.Tabs():
                for name in names:
                    with gr.Tab(name):
                        made.append(Panel(name, catalog, backend, sessions))
        else:
            made += _chosen(gr, names, catalog, backend, sessions)
        for panel in made:
            panel.listen(blocks)
    blocks.queue(max_size=MAX_QUEUE, default_concurrency_limit=MAX_QUEUE, api_open=False)
    return blocks


def _chosen(
    gr: Any, names: Sequence[str], catalog: Catalog, backend: "Backend", sessions: Sessions | None
) -> list[Any]:
    from genloom_platform.serve.playground.panel import Panel

    choice = gr.Dropdown(names, value=names[0], label="Model", elem_id="models")
    made: list[Any] = []
    columns: list[Any] = []
    for name in names:
        with gr.Column(visible=name == names[0]) as column:
            made.append(Panel(name, catalog, backend, sessions))
        columns.append(column)

    def show(chosen: str) -> list[Any]:
        return [gr.update(visible=name == chosen) for name in names]

    choice.change(show, choice, columns, api_visibility="private", show_progress="hidden")
    return made


def _header(closed: bool) -> str:
    leave = '<form method="post" action="logout"><button>Sign out</button></form>' if closed else ""
    title = html.escape("Genloom playground")
    return f'<header><h1>{title}</h1><nav><a href="docs">API</a>{leave}</nav></header>'


def _theme() -> Any:
    import gradio as gr

    plain = {
        "block_title_background_fill": "transparent",
        "block_label_background_fill": "transparent",
        "block_title_padding": "0",
        "block_title_text_color": "*body_text_color",
        "block_label_text_color": "*body_text_color",
        "block_border_width": "1px",
        "block_shadow": "none",
        "body_text_color_subdued": "*neutral_600",
        "block_info_text_color": "*neutral_600",
    }
    shades = {"background_fill": "transparent", "text_color": "*body_text_color"}
    plain |= {
        f"block_{part}_{name}_dark": value
        for part in ("title", "label")
        for name, value in shades.items()
    }
    plain |= {
        "body_text_color_subdued_dark": "*neutral_400",
        "block_info_text_color_dark": "*neutral_400",
    }
    hues: Any = {"primary_hue": "blue", "secondary_hue": "blue", "neutral_hue": "slate"}
    return gr.themes.Soft(**hues, font=FONTS, font_mono=MONO).set(**plain)
