"""The end of a sweep: the best trials are exported, evaluated in full and registered; MLflow is told."""

import time
from collections.abc import Callable, Sequence

from genloom_platform.data import manifest as manifests
from genloom_platform.models.registry import Registry
from genloom_platform.observe.tracking import flat, opened
from genloom_platform.sweep import alone, ranking, records
from genloom_platform.sweep.plan import Plan
from genloom_platform.sweep.records import Sweep, Trial
from genloom_platform.sweep.settings import SweepConfig
from genloom_platform.train import runs
from genloom_platform.train.course import Course
from genloom_platform.train.launch import register
from genloom_platform.train.runs import Run, Status
from genloom_platform.train.worker import Job


def register_best(
    plan: Plan,
    made: Sweep,
    trials: list[Trial],
    on_event: Callable[[str], None],
) -> list[Trial]:
    """Register the best; the trials, with what their models are called."""
    store = plan.store
    best = ranking.best(trials, plan.config)
    if 0 < len(best) < plan.config.best:  # where there is none, whoever asked says so
        on_event(too_few(len(best)))
    found = {trial.run: trial for trial in trials}
    for trial in best:
        if trial.model:
            continue
        run = runs.find(store, trial.run).model_copy(update={"config": plan.run(trial.params)})
        _export(plan, run)
        version = register(store, run, run.tracking_id)
        found[trial.run] = trial.model_copy(update={"model": version.full_name})
        status = Status(
            state="finished",
            step=trial.step,
            metrics=trial.metrics | version.metrics,
            model=version.full_name,
        )
        runs.set_status(store, trial.run, status)
        records.record(store, made.name, found[trial.run])
    return [found[trial.run] for trial in trials]


def too_few(count: int) -> str:
    """That fewer trials trained in full than were to be registered, in words."""
    trials, are = ("trials", "are") if count > 1 else ("trial", "is")
    return f"only {count} {trials} trained in full, so no more {are} registered"


def _export(plan: Plan, run: Run) -> None:
    """Write the weights of a run's last checkpoint as a release, where its trials run."""
    import ray

    scale = run.config.scale
    if scale.gpus_per_worker or (
        scale.most > 1 and run.config.zero_stage
    ):  # what is sharded may need all of them
        Course(plan.store, run, None, lambda: False, lambda report: None, lambda message: None).train()
        return
    job = Job(
        store=plan.store,
        run=run.name,
        config=run.config,
        dataset=manifests.load(plan.store, run.config.data).full_name,
        inbox=None,
        attempt=int(time.time()),
        workers=1,
        step=run.config.steps,
        start=run.start,
    )
    export = ray.remote(num_cpus=run.config.scale.cpus_per_worker, max_retries=1)(alone.release)
    ray.get(export.remote(job))


def start_tracking(registry: Registry, name: str, config: SweepConfig) -> str:
    """Open the sweep's run in MLflow, below which its trials' will be; returns its id."""
    values = flat(config.model_dump(mode="json", exclude_defaults=True))
    return opened(registry, name, {"sweep": name}, {key: value[:6000] for key, value in values.items()})


def end_tracking(registry: Registry, made: Sweep, trials: Sequence[Trial], state: str) -> None:
    """Record in MLflow what the sweep came to, and close its run."""
    client, config = registry.client, made.config
    ranked = ranking.ranked(trials, config)
    counts = {f"trials/{kind}": 0.0 for kind in ("finished", "stopped", "failed")}
    for trial in trials:
        if trial.ended:
            counts[f"trials/{trial.state}"] += 1
    values = counts | ({f"best/{m}": ranked[0].metrics[m] for m in config.metrics} if ranked else {})
    for name, value in values.items():
        client.log_metric(made.tracking_id, name, value)
    if ranked:
        client.set_tag(made.tracking_id, "best trial", ranked[0].run)
    models = [trial.model for trial in ranked if trial.model]
    if models:
        client.set_tag(made.tracking_id, "models", ", ".join(models))
    client.set_tag(
        made.tracking_id, "report", f"{registry.store.url}/{records.folder(made.name)}/{records.REPORT}"
    )
    client.set_terminated(made.tracking_id, state)
