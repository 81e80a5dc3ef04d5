"""An endpoint in this process, without Ray."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn

from genloom_platform.serve.model import Card, Served
from genloom_platform.serve.traffic import Answers


class LocalBackend:
    """The real models, in this process and without batches over requests."""

    def __init__(self, *models: Served) -> None:
        self._models = {model.loaded.name: model for model in models}
        self._cards = [model.card() for model in models]

    def models(self) -> Sequence[Card]:
        return self._cards

    async def answer(self, model: str, prompts: Sequence[Any]) -> Answers:
        asked = self._models[model].read(prompts)
        results = self._models[model].compute(asked)
        for result in results:
            if isinstance(result, Exception):
                raise result
        pairs = zip(asked, results, strict=True)
        return Answers([self._models[model].answer(*pair) for pair in pairs], str(model))

    async def settle(self, model: str, prompts: Sequence[Any]) -> list[Any]:
        return self._models[model].settle(prompts)

    async def stream(self, model: str, prompt: Any) -> AsyncGenerator[dict[str, Any]]:
        served = self._models[model]
        (asked,) = served.read([prompt])
        told, pieces = {"model": str(model)} | served.head(asked), served.pieces(asked)
        worker = ThreadPoolExecutor(1)
        try:
            while piece := await asyncio.get_running_loop().run_in_executor(worker, next, pieces, None):
                yield told | {"pieces": [piece]}
                told = {}
        finally:
            worker.submit(pieces.close)
            worker.shutdown(wait=False)


def serving(app: Any, **options: Any) -> Iterator[str]:
    """A real server in a thread of this process, with more options of uvicorn; yields its URL."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", **options))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        scheme = "https" if "ssl_certfile" in options else "http"
        yield f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()
