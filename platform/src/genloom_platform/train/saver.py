"""The saver: checkpoints that training does not wait for.

A thread copies state to host memory, then writes and uploads it, while training goes on; the next update waits
for the copy, and the next save for the rest. Ranks agree by what lies in the store, for a collective in another
thread would mix with those of training.
"""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from genloom.errors import StoreError
from genloom_platform.store import Store
from genloom_platform.train import checkpoint
from genloom_platform.train.checkpoint import MANIFEST, Checkpoint, File, place
from genloom_platform.train.snapshot import Copy, HostMemory, State, write

if TYPE_CHECKING:
    from genloom_platform.train.engine import Engine

PATIENCE_S = 600.0
"""How long a store that is away is waited for; training goes on until its next checkpoint is due."""
POLL_S = 0.05

Result = TypeVar("Result")


class Saver:
    """Saves a run's checkpoints on one rank."""

    def __init__(self, store: Store, run: str, engine: "Engine", mark: str = "0") -> None:
        self._store, self._run, self._engine = store, run, engine
        self._mark = mark
        """Names the files, so that those of an attempt that was cut off are never taken for ours."""
        self._memory = HostMemory()
        self._copy: Copy | None = None
        engine.before_change = self._settle
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def save(self, step: int, metrics: dict[str, float]) -> None:
        """Take the engine's state; it is committed some time later, before `wait` returns.

        Raises:
            StoreError: The checkpoint before could not be stored.
        """
        self.wait()
        state = self._engine.state()
        merged = {
            f"{part}|{name}": entry for part, each in state.items() for name, entry in each.items()
        }
        changing = self._engine.fleeting()
        fleeting = {name for name in merged if name.partition("|")[2] in changing}
        self._copy = copy = Copy(self._memory, merged, fleeting)
        parts: dict[str, State] = {
            part: {name: copy.state[f"{part}|{name}"] for name in each} for part, each in state.items()
        }
        self._thread = threading.Thread(
            target=self._store_all, args=(copy, parts, step, metrics), daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait until what was saved is committed as far as this rank has to do with it.

        Raises:
            StoreError: It could not be stored; there is no such checkpoint.
        """
        if self._thread:
            self._thread.join()
            self._thread = None
        if self._failure:
            failure, self._failure = self._failure, None
            raise failure

    def _settle(self) -> None:
        """Wait until the state that is being saved may change."""
        if self._copy:
            self._copy.settle()
            self._copy = None

    def _store_all(
        self, copy: Copy, parts: dict[str, State], step: int, metrics: dict[str, float]
    ) -> None:
        try:
            copy.finish()
            for part, state in parts.items():
                patiently(self._store, lambda part=part, state=state: self._put(part, state, step))
            if self._engine.rank == 0:
                self._commit(step, metrics)
        except BaseException as error:  # told by the next call, on the training's own thread
            self._failure = error

    def _put(self, part: str, state: State, step: int) -> None:
        """Store one part, and then its digest."""
        name = f"{part}.{self._mark}"
        with self._store.writing(f"{place(self._run, step)}/{name}.safetensors") as sink:
            write(state, sink.write)
        record = File(size_bytes=sink.size_bytes, sha256=sink.sha256)
        self._store.write(f"{place(self._run, step)}/{name}.json", record.model_dump_json().encode())

    def _commit(self, step: int, metrics: dict[str, float]) -> None:
        """Wait for every rank's part, then write the manifest: from then on there is this checkpoint."""
        names = [*(f"rank-{rank}" for rank in range(self._engine.world)), "rest"]
        files: dict[str, File] = {}
        for name in names:
            path = f"{place(self._run, step)}/{name}.{self._mark}.json"
            record = patiently(self._store, lambda path=path: self._record(path))
            files[f"{name}.{self._mark}.safetensors"] = record
        made = Checkpoint(
            step=step,
            workers=self._engine.world,
            zero_stage=self._engine.config.zero_stage,
            files=files,
            metrics=metrics,
            created_at=checkpoint.now(),
        )
        text = made.signed().model_dump_json(indent=1).encode()
        patiently(self._store, lambda: self._store.write(f"{place(self._run, step)}/{MANIFEST}", text))
        settings = self._engine.config.checkpoint
        patiently(self._store, lambda: checkpoint.prune(self._store, self._run, settings, step))

    def _record(self, path: str) -> File:
        while True:
            try:
                return File.model_validate_json(self._store.read(path))
            except FileNotFoundError:
                time.sleep(POLL_S)


def patiently(store: Store, action: Callable[[], Result], patience_s: float = PATIENCE_S) -> Result:
    """Do something to the store, again and again while it is away.

    A full or read-only disk of this machine does not come back by waiting, and is told at once.
    """
    until, pause = time.monotonic() + patience_s, 0.5
    while True:
        try:
            return action()
        except StoreError:
            if store.folder is not None or time.monotonic() + pause > until:
                raise
            time.sleep(pause)
            pause = min(2 * pause, 30)
