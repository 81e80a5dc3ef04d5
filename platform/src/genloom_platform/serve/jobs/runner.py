"""Runs the jobs of an endpoint: each gateway takes up what waits, or what a gateway left that is gone.

A job that was cut off goes on after the answers that are kept. Its prompts have their seeds, so what is made
twice is the same twice.
"""

import asyncio
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from genloom.errors import InvalidConfig, PromptError, RequestError, StoreError
from genloom_platform.serve.errors import SERVER, Refusal, from_prompts
from genloom_platform.serve.jobs.desk import CHUNK, Desk
from genloom_platform.serve.jobs.record import End, Job
from genloom_platform.serve.traffic import Answers
from genloom_platform.train.lock import Lock

LOOK_S = 5.0
"""How often the store is looked at for what other gateways took, left or cancelled."""
SWEEP_S = 300.0
"""How often what has expired is removed."""
UNSERVED_S = 300.0
"""How long a job waits for its model, where that is served no longer or not yet."""
ATTEMPTS = 8
"""How often a model is asked that is overloaded or being started."""
RETRY_S = 2.0
"""How long to wait where the model does not say."""

log = logging.getLogger("genloom.serve")


class Runner:
    """Runs jobs while its context lasts; then those that still run are left to the next gateway."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._callers: dict[str, str] = {}
        desk.on_cancel.append(self._stop)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Take jobs up until the block ends."""
        looking = [asyncio.create_task(each) for each in (self._look(), self._sweep())]
        try:
            yield
        finally:
            ending = [*looking, *self._tasks.values()]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            self._desk.accepted.clear()
            try:
                await self._take_up()
            except StoreError as error:
                log.warning("jobs wait, as the store is away: %s", error)
            # Python 3.11's wait_for may swallow that this is cancelled, and it would go on for ever.
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._desk.accepted.wait()

    async def _take_up(self) -> None:
        """Start what may start, first of callers with the fewest running jobs; stop what has ended elsewhere."""
        active = await asyncio.to_thread(self._desk.active)
        for name in self._tasks.keys() - {job.id for job in active}:
            self._stop(name)
        cards = self._desk.backend.models()
        # A version that was replaced meanwhile: the one in its place answers, and the result names it.
        served = {card.full_name for card in cards} | {card.name for card in cards}
        waiting = [job for job in active if job.id not in self._tasks]
        while waiting and len(self._tasks) < self._desk.settings.at_once:
            running = Counter(self._callers[name] for name in self._tasks)
            job = min(waiting, key=lambda job: (running[job.caller], job.created))
            waiting.remove(job)
            if served.isdisjoint((job.model, job.model.partition("@")[0])):
                await self._miss(job)
            elif not await asyncio.to_thread(self._desk.records.is_held, job.id):
                self._start(job)

    def _start(self, job: Job) -> None:
        task = asyncio.create_task(self._run(job))
        self._tasks[job.id], self._callers[job.id] = task, job.caller

        def done(_: Any) -> None:
            del self._tasks[job.id], self._callers[job.id]
            self._desk.accepted.set()

        task.add_done_callback(done)

    def _stop(self, id: str) -> None:
        if task := self._tasks.get(id):
            task.cancel()

    async def _miss(self, job: Job) -> None:
        """End a job whose model has not been served for long."""
        if time.time() > job.created + UNSERVED_S:
            message = f"{job.model} is served here no longer; GET /v1/models lists what is, ask that"
            refusal = Refusal(404, "model_not_found", message, param="model")
            await asyncio.to_thread(self._desk.records.end, job.id, End.failed(refusal))

    async def _run(self, job: Job) -> None:
        try:
            async with _holding(Lock(self._desk.records.store, job.id, "job")):
                end = await self._work(job)
                await asyncio.to_thread(self._desk.records.end, job.id, end)
        except RequestError:
            pass  # another gateway was quicker
        except StoreError as error:
            log.warning("job %s waits, as the store is away: %s", job.id, error)

    async def _work(self, job: Job) -> End:
        """Answer what is not answered yet; returns how that ended."""
        records = self._desk.records
        request = await asyncio.to_thread(records.request, job.id)
        kept = set(await asyncio.to_thread(records.answered, job.id))
        if request is None:
            return End(status="expired")
        model = job.model
        for start in range(0, job.total, CHUNK):
            if start in kept:
                continue
            try:
                answers = await self._ask(job, request.prompts[start : start + CHUNK])
            except Refusal as refusal:
                return End.failed(_counted_on(refusal, start))
            except StoreError:
                raise
            except Exception as error:
                number = secrets.token_hex(4)
                log.error("failure %s: job %s: %s", number, job.id, type(error).__name__)
                message = (
                    f"the endpoint failed on this job; its log tells of it, under failure {number}"
                )
                return End.failed(Refusal(500, "internal_error", message, kind=SERVER))
            model = answers.model
            await asyncio.to_thread(records.keep, job.id, start, answers)
        return End(status="succeeded", model=model)

    async def _ask(self, job: Job, prompts: Sequence[Any]) -> Answers:
        """The model's answers; one that is overloaded or being started is asked again.

        Raises:
            Refusal: There are none.
        """
        run_s = self._desk.settings.run_s
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with asyncio.timeout(run_s):
                    return await self._desk.backend.answer(job.model, prompts)
            except (InvalidConfig, PromptError) as error:
                raise from_prompts(error) from None
            except TimeoutError:
                message = f"{job.model} gave no answer in {run_s:g} s; ask for less in a job"
                raise Refusal(504, "answer_timeout", message, kind=SERVER) from None
            except Refusal as refusal:
                if refusal.status not in (429, 503) or attempt == ATTEMPTS:
                    raise
                after = (refusal.headers or {}).get("Retry-After", "")
            await asyncio.sleep(float(after) if after.isdigit() else RETRY_S)
        raise AssertionError("the last attempt returns or raises")

    async def _sweep(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.sweep)
            except StoreError as error:
                log.warning("what has expired is kept, as the store is away: %s", error)
            await asyncio.sleep(SWEEP_S)

    def sweep(self) -> None:
        """Expire jobs whose time is over, and remove those that have been told as expired for as long."""
        records, kept_s = self._desk.records, self._desk.settings.kept_s
        for job in list(records.all()):
            if job.endpoint != self._desk.endpoint:
                continue
            end = records.end_of(job.id)
            if end is None and time.time() > job.created + kept_s:
                records.end(job.id, End(status="expired"))
                records.clear(job.id)
            elif end and time.time() > end.at + kept_s:
                records.forget(job.id) if end.status == "expired" else records.expire(job.id)
        for name in records.orphans(kept_s):
            records.forget(name)


@asynccontextmanager
async def _holding(held: Lock) -> AsyncGenerator[None]:
    """Hold a lock, which is taken and left in a thread; also where that is cancelled, it is left at the end."""
    taking = asyncio.ensure_future(asyncio.to_thread(held.__enter__))
    try:
        await asyncio.shield(taking)
        yield
    finally:
        await asyncio.wait([taking])
        if not taking.exception():
            await asyncio.shield(asyncio.to_thread(held.__exit__, None, None, None))


def _counted_on(refusal: Refusal, start: int) -> Refusal:
    """A refusal of some prompts, as if all had been sent at once: `prompts.0` is the one at the start."""

    def moved(text: str) -> str:
        return re.sub(r"\bprompts\.(\d+)", lambda found: f"prompts.{int(found[1]) + start}", text)

    body = refusal.body
    param = moved(body.param) if body.param else None
    return Refusal(refusal.status, body.code, moved(body.message), param=param, kind=body.type)
