"""Faults for trainings on the session's Ray cluster: workers killed or stopped at chosen or random moments."""

import os
import signal
import threading
import time

import psutil

from genloom_platform.config import read_values, resolve
from genloom_platform.train import checkpoint, launch, runs

STEPS = 400
EVERY = 20


def workers():
    """The processes of Ray Train's workers on this machine."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "RayTrainWorker" in " ".join(process.info["cmdline"] or []):
            found.append(process.pid)
    return sorted(found)


class Fault:
    """Sends a signal to a random worker, once: some time after a step, or in the middle of a save."""

    def __init__(self, random, kind=signal.SIGKILL, step=None, saving=False):
        self.kind, self.saving, self._random = kind, saving, random
        self.step = random.randrange(EVERY, STEPS // 2) if step is None else step
        self._delay_s = random.uniform(0, 0.05)
        self.struck_at = None

    def watch(self, store, run, step):
        """Called with every report; strikes from a thread, so as not to wait for the next one."""
        if self.struck_at is None and step >= self.step:
            self.struck_at = step
            threading.Thread(target=self._strike, args=(store, run), daemon=True).start()

    def _strike(self, store, run):
        if self.saving:
            while not _in_a_save(store, run):
                time.sleep(0.0005)
        else:
            time.sleep(self._delay_s)
        os.kill(self._random.choice(workers()), self.kind)


def _in_a_save(store, run):
    """Whether a checkpoint is being written that is not committed yet."""
    names = store.names(checkpoint.folder(run))
    return bool(names) and not store.exists(f"{checkpoint.folder(run)}/{names[-1]}/manifest.json")


def trained(store, generator, stage, faults=(), words=()):
    """Train through some faults; returns the metrics by step, the run's attempts, and what was said of them.

    A step that was done again must have given the same metrics; that is asserted here.
    """
    config = resolve(
        read_values(generator, [
            f"steps={STEPS}", "data=digits", "global_batch=24", "scale.workers=2", "log_every=5", "seed=3",
            "evaluate=false", f"checkpoint.every={EVERY}", "recovery.hung_s=15",
            f"deepspeed.zero_optimization.stage={stage}",
            "deepspeed.zero_optimization.stage3_param_persistence_threshold=0", *words,
        ]), store,
    )  # fmt: skip
    seen, events, waiting, names = {}, [], list(faults), []

    def on_report(report):
        for index, metrics in enumerate(report.metrics):
            step = report.step - len(report.metrics) + 1 + index
            assert seen.setdefault(step, metrics) == metrics
        if waiting:
            waiting[0].watch(store, names[0], report.step)

    def on_event(message):
        events.append(message)
        if waiting and waiting[0].struck_at is not None and "retry" in message:
            waiting.pop(0)

    launch.train(
        store, config, on_start=lambda run, step: names.append(run.name), on_report=on_report,
        on_event=on_event,
    )  # fmt: skip
    return seen, runs.history(store, names[0]), events
