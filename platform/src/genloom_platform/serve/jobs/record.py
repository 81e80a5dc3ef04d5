"""A job as it lies in the store.

    jobs/<id>/request.json        the prompts, each with its seed; written once, before the job
    jobs/<id>/job.json            who asked what and when; written once
    jobs/<id>/lock.json           the process that runs it, while it does
    jobs/<id>/answers/<n>.json    the answers from the n-th prompt on, each time when some are made
    jobs/<id>/samples/<n>.png     the media of the n-th answer
    jobs/<id>/end.json            how it ended; whoever writes it first is right

Nothing else tells its state: without an end it is running where the lock is held, and queued where not.
Several gateways may work on the jobs of one store.
"""

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_core import from_json, to_json

from genloom import Audio, Image, Notes
from genloom.data import Facts
from genloom_platform.serve.errors import ErrorBody, Refusal
from genloom_platform.store import Store
from genloom_platform.train import lock

FOLDER = "jobs"
SUFFIXES = {kind.media_type: kind.suffix for kind in (Image, Audio, Notes)}
_ID = re.compile(r"job_[0-9a-f]{32}")


class Request(Facts):
    """What is to be answered."""

    token: str = Field(default_factory=lambda: secrets.token_hex(8))
    digest: str
    """Of the request as it came, by which a repeated one is known."""
    prompts: tuple[Any, ...]


class Job(Facts):
    """A request that was accepted."""

    id: str
    token: str = Field(default_factory=lambda: secrets.token_hex(8))
    endpoint: str
    """The URL of the endpoint that accepted it, and whose gateways run it."""
    caller: str
    """The name of the key that it was asked with; empty where none is asked for."""
    model: str
    """`name@version`."""
    kind: Literal["generator", "predictor"]
    total: int
    """Prompts."""
    digest: str
    created: float
    """In seconds since 1970."""


class End(Facts):
    """How a job ended."""

    token: str = Field(default_factory=lambda: secrets.token_hex(8))
    status: Literal["succeeded", "failed", "cancelled", "expired"]
    at: float = Field(default_factory=time.time)
    model: str | None = None
    """`name@version` of what answered last, where it did."""
    code: int = 200
    """The HTTP status that its result has."""
    error: ErrorBody | None = None

    @classmethod
    def failed(cls, refusal: Refusal) -> "End":
        """The end of a job that got what a direct request would have been told."""
        return cls(status="failed", code=refusal.status, error=refusal.body)


def new_id(endpoint: str, caller: str, key: str | None) -> str:
    """A job's id: drawn, or told by a caller's Idempotency-Key, so that the same one means the same job."""
    if key is None:
        return f"job_{secrets.token_hex(16)}"
    words = "\0".join((endpoint, caller, key))
    return f"job_{hashlib.sha256(words.encode()).hexdigest()[:32]}"


def is_id(text: str) -> bool:
    """Whether a text can be a job's id: it becomes a folder, and must never be a path."""
    return _ID.fullmatch(text) is not None


class Records:
    """The jobs of a store. Every method reads or writes it, so call them in a thread."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._jobs: dict[str, Job] = {}
        self._ends: dict[str, End] = {}

    def all(self) -> Iterator[Job]:
        """Every job, also those of other endpoints; what was read once is not read again."""
        names = [name for name in self.store.names(FOLDER) if is_id(name)]
        for gone in self._jobs.keys() - names:
            self._jobs.pop(gone, None)
            self._ends.pop(gone, None)
        for name in names:
            if job := self.find(name):
                yield job

    def orphans(self, older_s: float) -> list[str]:
        """Folders without a job that were last written so long ago: an acceptance that was cut off."""
        before = time.time() - older_s
        return [
            name
            for name in self.store.names(FOLDER)
            if is_id(name)
            and self.find(name) is None
            and (self.store.modified_at(f"{FOLDER}/{name}") or 0) < before
        ]

    def find(self, id: str) -> Job | None:
        """A job, or None where there is none."""
        if id not in self._jobs:
            try:
                self._jobs[id] = Job.model_validate_json(self.store.read(_path(id, "job.json")))
            except (FileNotFoundError, ValidationError):
                return None
        return self._jobs[id]

    def create(self, job: Job, request: Request) -> Job:
        """Write a job, or find the one that was written under its id before.

        Raises:
            Refusal: Its id, which the caller's Idempotency-Key tells, belongs to another request.
        """
        content = request.model_dump_json().encode()
        if not self.store.create(_path(job.id, "request.json"), content):
            kept = self.request(job.id)
            if kept and kept.digest != job.digest:
                raise reused()
        if self.store.create(_path(job.id, "job.json"), job.model_dump_json(indent=1).encode()):
            return job
        return self.find(job.id) or job

    def request(self, id: str) -> Request | None:
        """What a job is to answer; None where it is cleared away."""
        try:
            return Request.model_validate_json(self.store.read(_path(id, "request.json")))
        except FileNotFoundError:
            return None

    def end_of(self, id: str) -> End | None:
        """How a job ended; None where it has not."""
        if id not in self._ends:
            try:
                self._ends[id] = End.model_validate_json(self.store.read(_path(id, "end.json")))
            except FileNotFoundError:
                return None
        return self._ends[id]

    def end(self, id: str, end: End) -> End:
        """End a job; returns how it ended, which is otherwise where it had ended before."""
        if self.store.create(_path(id, "end.json"), end.model_dump_json(indent=1).encode()):
            self._ends[id] = end
        return self.end_of(id) or end

    def is_held(self, id: str) -> bool:
        """Whether a process runs it."""
        return lock.holder(self.store, id, "job") is not None

    def keep(self, id: str, start: int, answers: Sequence[Any]) -> None:
        """Write the answers from a prompt on, their media as files."""
        kept = [self._filed(id, number, answer) for number, answer in enumerate(answers, start)]
        self.store.write(_path(id, f"answers/{start:04d}.json"), to_json(kept, inf_nan_mode="null"))

    def answered(self, id: str) -> list[int]:
        """From which prompts on answers are kept."""
        return [int(name.removesuffix(".json")) for name in self.store.names(_path(id, "answers"))]

    def answers(self, id: str) -> list[Any]:
        """All that is answered, in order, as the model gave it.

        Raises:
            FileNotFoundError: It is cleared away.
        """
        return [
            self._whole(id, answer)
            for start in self.answered(id)
            for answer in from_json(self.store.read(_path(id, f"answers/{start:04d}.json")))
        ]

    def clear(self, id: str) -> None:
        """Remove what a job was asked and what it made; that it was there, and how it ended, stays."""
        for name in ("answers", "samples"):
            self.store.delete(_path(id, name))
        self.store.remove(_path(id, "request.json"))

    def expire(self, id: str) -> None:
        """Clear a job that has ended, and say so."""
        end = End(status="expired")
        self.store.write(_path(id, "end.json"), end.model_dump_json(indent=1).encode())
        self._ends[id] = end
        self.clear(id)

    def forget(self, id: str) -> None:
        """Remove all of a job."""
        self.store.delete(f"{FOLDER}/{id}")
        self._jobs.pop(id, None)
        self._ends.pop(id, None)

    def _filed(self, id: str, number: int, answer: Any) -> Any:
        sample = answer.get("sample")
        if not isinstance(sample, dict):
            return answer
        media_type, data = sample["media_type"], sample["data"]
        file = f"samples/{number:04d}{SUFFIXES.get(media_type, '')}"
        self.store.write(_path(id, file), base64.b64decode(data))
        return answer | {"sample": {"media_type": media_type, "file": file}}

    def _whole(self, id: str, answer: Any) -> Any:
        sample = answer.get("sample")
        if not isinstance(sample, dict):
            return answer
        data = base64.b64encode(self.store.read(_path(id, sample["file"]))).decode("ascii")
        return answer | {"sample": {"media_type": sample["media_type"], "data": data}}


def reused() -> Refusal:
    """What is told of an Idempotency-Key that came with another request."""
    return Refusal(
        422,
        "idempotency_key_reused",
        "Idempotency-Key: it was sent with another request before; give each request a key of its own",
    )


def _path(id: str, file: str) -> str:
    return f"{FOLDER}/{id}/{file}"
