"""The routes that clients of OpenAI's API speak, so that the `openai` package works unchanged.

    text.py          /v1/completions and /v1/chat/completions
    images.py        /v1/images/generations, /v1/images/edits, /v1/images/variations
    speech.py        /v1/audio/speech
    embeddings.py    /v1/embeddings

Each reads a request of a documented shape and makes prompts of it by the rules in `request.py`.
"""

from fastapi import FastAPI

from genloom_platform.serve.asking import Backend
from genloom_platform.serve.catalog import Catalog
from genloom_platform.serve.speaking import embeddings, images, speech, text

__all__ = ["add_routes"]


def add_routes(app: FastAPI, backend: Backend, catalog: Catalog) -> None:
    """Add all of them to an app."""
    for kind in (text, images, speech, embeddings):
        kind.add_routes(app, backend, catalog)
