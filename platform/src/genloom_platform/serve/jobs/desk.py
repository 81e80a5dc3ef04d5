"""Where jobs are accepted, found, listed and cancelled. `runner.py` runs them, `routes.py` tells them by HTTP."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import to_json

from genloom_platform.serve.asking import Backend, settle
from genloom_platform.serve.errors import SERVER, Refusal
from genloom_platform.serve.jobs.record import End, Job, Records, Request, is_id, new_id, reused
from genloom_platform.serve.jobs.settings import JobSettings
from genloom_platform.serve.model import Card
from genloom_platform.store import Store

Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "expired"]
KEY_CHARS = 255
"""The longest Idempotency-Key."""
BUSY_S, FULL_S = 10, 600
"""When a caller may ask again where too many jobs wait, and where too many are kept."""


@dataclass(frozen=True)
class State:
    """A job as it is now."""

    job: Job
    status: Status
    done: int
    """Prompts that are answered."""
    end: End | None


class Desk:
    """The jobs of one endpoint. A caller sees its own; those of others are as if they were not there."""

    def __init__(
        self,
        store: Store,
        endpoint: str,
        backend: Backend,
        settings: JobSettings | None = None,
    ) -> None:
        self.records, self.endpoint = Records(store), endpoint
        self.backend, self.settings = backend, settings or JobSettings()
        self.accepted = asyncio.Event()
        """Set when there is something new to run."""
        self.on_cancel: list[Callable[[str], None]] = []
        """Called with the id of a job that was cancelled."""
        self._turn = asyncio.Lock()

    async def accept(
        self,
        caller: str,
        card: Card,
        prompts: Sequence[Any],
        key: str | None,
        listed: bool = True,
    ) -> State:
        """Take a request that is to be answered later, after the model has checked it.

        Args:
            caller: Whose key it came with.
            card: The model.
            prompts: As they came.
            key: The header Idempotency-Key, where one was sent: the same one gives the same job.
            listed: See `asking.ask`.

        Raises:
            Refusal: The prompts or the key are wrong, or there are too many jobs.
        """
        if key is not None and not (0 < len(key) <= KEY_CHARS and key.isprintable()):
            message = f"Idempotency-Key has {len(key)} characters: give 1 to {KEY_CHARS} printable ones"
            raise Refusal(422, "invalid_idempotency_key", message)
        name = new_id(self.endpoint, caller, key)
        digest = hashlib.sha256(to_json([card.name, prompts])).hexdigest()
        if key is not None and (known := await asyncio.to_thread(self.records.find, name)):
            if known.digest != digest:
                raise reused()
            return await self._state(known)
        settled = await settle(self.backend, card, prompts, listed)
        job = Job(
            id=name,
            endpoint=self.endpoint,
            caller=caller,
            model=card.full_name,
            kind=card.kind,
            total=len(settled),
            digest=digest,
            created=time.time(),
        )
        request = Request(digest=digest, prompts=tuple(settled))
        async with self._turn:  # so that no two take the last place
            await asyncio.to_thread(self._check_room, caller)
            made = await asyncio.to_thread(self.records.create, job, request)
        self.accepted.set()
        return await self._state(made)

    async def find(self, caller: str, id: str) -> State:
        """A caller's own job.

        Raises:
            Refusal: It has none of that id.
        """
        job = await asyncio.to_thread(self.records.find, id) if is_id(id) else None
        if job is None or (job.endpoint, job.caller) != (self.endpoint, caller):
            message = f"there is no job {id[:40]!r} of yours; GET /v1/jobs lists those that there are"
            raise Refusal(404, "job_not_found", message)
        return await self._state(job)

    async def page(self, caller: str, limit: int, after: str | None) -> tuple[list[State], bool]:
        """A caller's own jobs, the newest first, and whether there are more.

        Raises:
            Refusal: The job to begin after is none of the caller's.
        """
        own = [job for job in await asyncio.to_thread(self._jobs) if job.caller == caller]
        own.sort(key=lambda job: (-job.created, job.id))
        if after is not None:
            await self.find(caller, after)
            own = own[[job.id for job in own].index(after) + 1 :]
        shown = [await self._state(job) for job in own[:limit]]
        return shown, len(own) > limit

    async def result(self, state: State) -> list[Any]:
        """The answers of a job that succeeded.

        Raises:
            Refusal: It has none: what a direct request would have been told, or why there is none yet.
        """
        job, end = state.job, state.end
        if state.status in ("queued", "running"):
            far = f"{state.done} of {job.total} prompts are answered"
            message = f"the job is {state.status}, {far}; ask again later"
            raise Refusal(409, "job_not_done", message, headers={"Retry-After": "2"})
        if state.status == "cancelled":
            raise Refusal(409, "job_cancelled", "the job was cancelled; send the request again")
        if end and end.error:
            raise Refusal(
                end.code, end.error.code, end.error.message, param=end.error.param, kind=end.error.type
            )
        if state.status == "succeeded":
            try:
                return await asyncio.to_thread(self.records.answers, job.id)
            except FileNotFoundError:
                pass  # cleared away since
        raise Refusal(
            410, "job_expired", "the job has expired, with all that it made; send the request again"
        )

    async def cancel(self, state: State) -> State:
        """Cancel a job that waits or runs; remove what one made that has ended."""
        name = state.job.id
        if state.status in ("queued", "running"):
            end = await asyncio.to_thread(self.records.end, name, End(status="cancelled"))
            if end.status == "cancelled":
                for told in self.on_cancel:
                    told(name)
                await asyncio.to_thread(self.records.clear, name)
        elif state.status != "expired":
            await asyncio.to_thread(self.records.expire, name)
        return await self._state(state.job)

    async def _state(self, job: Job) -> State:
        return await asyncio.to_thread(self.state_of, job)

    def state_of(self, job: Job) -> State:
        """A job as it is now; reads the store."""
        end = self.records.end_of(job.id)
        if end is None:
            status: Status = "running" if self.records.is_held(job.id) else "queued"
        else:
            status = "expired" if time.time() > end.at + self.settings.kept_s else end.status
        if status == "succeeded":
            return State(job, status, job.total, end)
        done = sum(min(CHUNK, job.total - start) for start in self.records.answered(job.id))
        return State(job, status, done, end)

    def _jobs(self) -> list[Job]:
        return [job for job in self.records.all() if job.endpoint == self.endpoint]

    def active(self) -> list[Job]:
        """Jobs of this endpoint that wait or run, the oldest first; reads the store."""
        found = [job for job in self._jobs() if self.records.end_of(job.id) is None]
        return sorted(found, key=lambda job: (job.created, job.id))

    def _check_room(self, caller: str) -> None:
        """Raise Refusal where there is no room for another job."""
        limits, kept, active = self.settings, self._jobs(), self.active()
        own_kept, own_active = (
            [job for job in jobs if job.caller == caller] for jobs in (kept, active)
        )
        if len(own_active) >= limits.most_active_of_caller:
            rule = f"{len(own_active)} jobs of yours wait or run, and no more are taken"
            raise _no_room(429, "too_many_jobs", f"{rule}; wait for one, or cancel it", BUSY_S)
        if len(own_kept) >= limits.most_kept_of_caller:
            rule = f"{len(own_kept)} jobs of yours are kept, and no more are"
            raise _no_room(429, "too_many_jobs", f"{rule}; DELETE those that you have read", BUSY_S)
        if len(active) >= limits.most_active:
            rule = f"{len(active)} jobs wait or run, and no more are taken"
            raise _no_room(503, "overloaded", f"{rule}; ask again in {BUSY_S} s", BUSY_S)
        if len(kept) >= limits.most_kept:
            rule = f"{len(kept)} jobs are kept, and no more are"
            raise _no_room(503, "overloaded", f"{rule}; ask again in {FULL_S} s", FULL_S)


CHUNK = 16
"""Prompts of a job that the model is given at once; after each so many, what is made is kept."""


def _no_room(status: int, code: str, message: str, after_s: int) -> Refusal:
    kind = SERVER if status >= 500 else "rate_limit_error"
    return Refusal(status, code, message, kind=kind, headers={"Retry-After": str(after_s)})
