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
from genloom_platform.serve.playground.sessions import Sessions
from genloom_platform.serve.playground.wall import MakePage

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


def maker(backend: "Backend", catalog: Catalog) -> MakePage:
    """What makes the page of an endpoint."""

    async def make(folder: Path, sessions: Sessions | None) -> FastAPI:
        # Gradio's files lie where this says, for the whole process: a process has one page.
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        return await asyncio.to_thread(_mounted, backend, catalog, sessions)

    return make


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
        cards = list(catalog.cards.items())
        if not cards:
            gr.HTML("<p>No model is served here.</p>")
        elif len(cards) == 1:
            made.append(Panel(*cards[0], backend, sessions))
        elif len(cards) <= MAX_TABS:
            with gr.Tabs():
                for name, card in cards:
                    with gr.Tab(name):
                        made.append(Panel(name, card, backend, sessions))
        else:
            made += _chosen(gr, cards, backend, sessions)
        for panel in made:
            panel.listen(blocks)
    blocks.queue(max_size=MAX_QUEUE, default_concurrency_limit=MAX_QUEUE, api_open=False)
    return blocks


def _chosen(gr: Any, cards: Sequence[Any], backend: "Backend", sessions: Sessions | None) -> list[Any]:
    from genloom_platform.serve.playground.panel import Panel

    names = [name for name, _ in cards]
    choice = gr.Dropdown(names, value=names[0], label="Model", elem_id="models")
    made: list[Any] = []
    columns: list[Any] = []
    for name, card in cards:
        with gr.Column(visible=name == names[0]) as column:
            made.append(Panel(name, card, backend, sessions))
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
