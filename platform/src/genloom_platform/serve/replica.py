"""A version of a model in processes of its own, and how they are reached.

A request goes from Serve's HTTP proxy to the Gateway (`gateway.py`, `app.py`), and from there to a
ModelReplica, where it shares batches with others (`model.py`).
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from genloom import LoadedModel, Prompt
from genloom.errors import GenloomError, InvalidConfig, PromptError, RequestError
from genloom_platform.serve.coalesce import Interrupted
from genloom_platform.serve.dispatch import Dispatch
from genloom_platform.serve.errors import SERVER, Refusal
from genloom_platform.serve.guard import MAX_REQUESTS
from genloom_platform.serve.model import Card, Served, served
from genloom_platform.serve.scaling import REQUESTS
from genloom_platform.serve.traffic import Answers

MAX_BATCH = 64
"""Prompts that a model is given at once."""
BATCH_WAIT_S = 0.002
"""How long the first prompt of a batch waits for others."""
PREFIX = "genloom."
"""Before a version in the name of its Serve application."""
HEALTH_S = 2.0
"""Between two looks whether a replica lives; one that does not is replaced."""
CAUSE = "cannot load the model: "
"""After it stands, to the end of the line, why a model cannot be loaded; Serve hands on a traceback."""

log = logging.getLogger("genloom.serve")


# All that the gateway lets through may share batches. A model that cannot be loaded is told at once.
@serve.deployment(
    max_ongoing_requests=MAX_REQUESTS, max_constructor_retry_count=1, health_check_period_s=HEALTH_S
)
class ModelReplica:
    """One model in a process of its own; it has made a sample or a prediction before it is asked."""

    def __init__(self, load: Callable[[], LoadedModel], created: int, run: str | None) -> None:
        import torch

        torch.set_num_threads(1)
        try:
            self._model = served(load(), created, run)
            warm(self._model)
        except Exception as error:
            what = str(error) if isinstance(error, GenloomError) else f"{type(error).__name__}: {error}"
            raise RuntimeError(CAUSE + " ".join(what.split())) from error
        self._worker = ThreadPoolExecutor(1, "model")
        self._idle = asyncio.Event()
        self._idle.set()
        self._requests = 0

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What `scaling.by_requests` goes by; Serve itself counts calls, each of which may hold many."""
        return {REQUESTS: self._requests}

    async def card(self) -> Card:
        """What to tell of the model."""
        return await asyncio.to_thread(self._model.card)

    async def answer_many(self, requests: Sequence[Sequence[Any]]) -> list[Any]:
        """Several requests at once: for each what `answer` gives."""
        self._requests += len(requests)
        try:
            return await asyncio.gather(*map(self.answer, requests))
        finally:
            self._requests -= len(requests)

    async def answer(self, given: Sequence[Any]) -> list[Any] | InvalidConfig | PromptError | Refusal:
        """One answer for each prompt, or why there is none.

        Errors are returned: raised ones would be logged, wrapped and counted as Serve's own failures.
        """
        try:
            prompts = await asyncio.to_thread(self._model.read, given)
        except InvalidConfig as error:
            return error
        results = await asyncio.gather(*(self._in_batch(prompt) for prompt in prompts))
        for index, result in enumerate(results):
            if isinstance(result, Exception):
                return self._explain(index, prompts[index], result)
        return await asyncio.to_thread(
            lambda: [self._model.answer(*pair) for pair in zip(prompts, results, strict=True)]
        )

    async def _in_batch(self, prompt: Prompt) -> Any:
        # Serve closes a batch after its wait even while the one before is computed, and then has a
        # queue of small ones. So prompts stay out of it until the model is idle, and enter together.
        await self._idle.wait()
        return await self._batch(prompt)

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)
    async def _batch(self, prompts: list[Prompt]) -> list[Any]:
        self._idle.clear()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._worker, self._model.compute, prompts)
        finally:
            self._idle.set()

    def _explain(self, index: int, prompt: Prompt, error: Exception) -> PromptError | Refusal:
        if isinstance(error, PromptError):
            return PromptError(f"prompts.{index}: {error}")
        number = secrets.token_hex(4)
        log.error("failure %s: %s on %r", number, self._model.loaded.name, prompt, exc_info=error)
        return Refusal(
            500,
            "model_failed",
            f"prompts.{index}: {self._model.loaded.name} failed on this prompt (seed {prompt.seed}); "
            f"the endpoint's log tells why, under failure {number}",
            param=f"prompts.{index}",
            kind=SERVER,
        )


def warm(model: Served) -> None:
    """Let a model answer its prompt of all defaults, so that the first caller waits for no start.

    A model whose prompt needs more is left as it is.

    Raises:
        RequestError: It fails on it.
    """
    try:
        (prompt,) = model.read([{}])
    except InvalidConfig:
        return
    (result,) = model.compute([prompt])
    if isinstance(result, PromptError):
        return
    if isinstance(result, Exception):
        raise RequestError(
            f"it fails on the prompt of all defaults ({type(result).__name__}: {result}); mend the plugin, "
            f"and look with genloom generate {model.loaded.name}"
        ) from result
    model.answer(prompt, result)


class Handles(dict[str, DeploymentHandle]):
    """Serve's handles to versions, by `name@version`."""

    def __missing__(self, version: str) -> DeploymentHandle:
        handle = serve.get_deployment_handle(version, PREFIX + version, _check_exists=False)
        self[version] = handle
        return handle


class RayBackend:
    """The models of an endpoint, reached through Serve's handles."""

    def __init__(self) -> None:
        self._handles = Handles()
        self.dispatch = Dispatch(self._call)

    def models(self) -> Sequence[Card]:
        """What is served."""
        return self.dispatch.models()

    async def answer(self, model: str, prompts: Sequence[Any]) -> Answers:
        """See `app.Backend`."""
        return await self.dispatch.answer(model, prompts)

    async def _call(self, version: str, requests: list[Sequence[Any]]) -> list[Any]:
        """See `coalesce.Call`."""
        response = self._handles[version].answer_many.remote(requests)
        try:
            return await response
        except RayActorError as error:
            raise Interrupted from error
        except asyncio.CancelledError:
            response.cancel()  # a wait that ends does not end the call
            raise
