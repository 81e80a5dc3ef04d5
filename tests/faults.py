"""Faults for trainings on the session's Ray cluster: workers that are killed or stopped at chosen moments."""

import os
import signal
import threading
import time
from dataclasses import dataclass

import psutil
import strikes

from genloom_platform.config import read_values, resolve
from genloom_platform.train import checkpoint, launch, runs

EVERY = 20


@dataclass
class Fault:
    """What happens to a worker, once, at a moment soon after a step.

    The moments of `strikes`; or `saving`, a checkpoint is being written; or `now`. Or it happens, now, to the
    actor of the run that is named: its `Inbox` or `Controller`.
    """

    step: int
    moment: str
    rank: int = 0
    kind: int = signal.SIGKILL
    struck: bool = False

    def watch(self, store, run, step, plan):
        """Called with every report; strikes from a thread, so as not to wait for the next one."""
        if self.struck or step < self.step:
            return
        self.struck = True
        if self.moment in strikes.MOMENTS:
            strikes.order(plan, self.rank, self.moment)
        else:
            threading.Thread(target=self._strike, args=(store, run), daemon=True).start()

    def _strike(self, store, run):
        while self.moment == "saving" and not _in_a_save(store, run):
            time.sleep(0.0005)
        if self.moment in ("Inbox", "Controller"):
            for process in actors(self.moment):
                os.kill(process, self.kind)
        else:
            os.kill(workers()[self.rank], self.kind)


def workers():
    """The processes of Ray Train's workers on this machine."""
    return actors("RayTrainWorker")


def actors(kind):
    """The processes of the actors of a class on this machine."""
    processes = psutil.process_iter(["cmdline"])
    return sorted(
        each.pid for each in processes if f"ray::{kind}" in " ".join(each.info["cmdline"] or [])
    )


def _in_a_save(store, run):
    """Whether a checkpoint is being written that is not committed yet."""
    names = store.names(checkpoint.folder(run))
    return bool(names) and not store.exists(f"{checkpoint.folder(run)}/{names[-1]}/manifest.json")


def a_run(store, generator, stage, plan, steps, words=()):
    """The configuration of a run that faults may meet."""
    return resolve(
        read_values(generator, [
            f"steps={steps}", "data=digits", "global_batch=24", "scale.workers=2", "log_every=5", "seed=3",
            "evaluate=false", f"checkpoint.every={EVERY}", "recovery.hung_s=15", f"plan={plan}",
            f"deepspeed.zero_optimization.stage={stage}",
            "deepspeed.zero_optimization.stage3_param_persistence_threshold=0", *words,
        ]), store,
    )  # fmt: skip


def trained(store, generator, stage, plan, faults=(), steps=200, words=()):
    """Train through some faults; returns the metrics by step, the run's attempts, and what was said of them.

    A step that was done again must have given the same metrics; that is asserted here.
    """
    config = a_run(store, generator, stage, plan, steps, words)
    seen, events, waiting, names = {}, [], list(faults), []

    def on_report(report):
        for index, metrics in enumerate(report.metrics):
            step = report.step - len(report.metrics) + 1 + index
            assert seen.setdefault(step, metrics) == metrics
        if waiting:
            waiting[0].watch(store, names[0], report.step, plan)

    def on_event(message):
        events.append(message)
        if waiting and waiting[0].struck and "retry" in message:
            waiting.pop(0)

    launch.train(
        store, config, on_start=lambda run, step: names.append(run.name), on_report=on_report,
        on_event=on_event,
    )  # fmt: skip
    return seen, runs.history(store, names[0]), events
