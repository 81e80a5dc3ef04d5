"""Launch: the driver's side of a run. The next file to read is `worker.py`, then `loop.py`.

A run is checked whole before anything is written; then Ray Train starts the workers, and this
process shows what they report, until the model is registered.
"""

import datetime
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from genloom import registry as plugins
from genloom.errors import GenloomError, RequestError, TrainingError
from genloom_platform import cluster
from genloom_platform.config import RunConfig
from genloom_platform.data import manifest as manifests
from genloom_platform.data import shards
from genloom_platform.data.stream import ray_dataset
from genloom_platform.models import release
from genloom_platform.models.registry import Registry, Version
from genloom_platform.observe.tracking import Tracking
from genloom_platform.store import Store
from genloom_platform.train import checkpoint, runs
from genloom_platform.train.inbox import Report, start_inbox
from genloom_platform.train.runs import Run, Status
from genloom_platform.train.worker import Job, work

POLL_S = 0.2


@dataclass(frozen=True)
class Trained:
    """How a run ended."""

    run: Run
    status: Status
    model: Version | None
    """What was registered; None where the run was stopped before its last step."""


def train(
    store: Store,
    config: RunConfig,
    *,
    name: str | None = None,
    on_start: Callable[[Run, int], None] = lambda run, step: None,
    on_report: Callable[[Report], None] = lambda report: None,
) -> Trained:
    """Start a run and see it through.

    Args:
        store: Where datasets, the run and the model live.
        config: The run, as `config.resolve` gave it.
        name: The run's name; made from the generator and the time where None.
        on_start: Called with the run, and the step that it starts from.
        on_report: Called with every report of the workers.

    Raises:
        RequestError: The dataset does not exist or fit, the name is taken, the cluster is too small.
        DataError: A shard is damaged.
        TrainingError: The training failed.
    """
    manifest = manifests.load(store, config.data)
    manifest.facts_for(config.trainable())
    name = runs.claim(store, name) if name else runs.new_name(store, config.generator_name)
    store.check_writable()
    shards.require(store, manifest)
    _connect(config)
    tracking = Tracking(Registry(store))
    plugin = plugins.find(config.generator_name)
    run = Run(
        name=name,
        config=config,
        dataset=manifest.full_name,
        package=plugin.package,
        package_version=plugin.version,
        tracking_id=tracking.start(name, config, manifest),
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
    )
    runs.create(store, run)
    on_start(run, 0)
    return _see_through(store, run, tracking, on_report)


def resume(
    store: Store,
    name: str,
    *,
    on_start: Callable[[Run, int], None] = lambda run, step: None,
    on_report: Callable[[Report], None] = lambda report: None,
) -> Trained:
    """Go on with a run from its newest checkpoint; arguments and errors as for `train`."""
    run = runs.find(store, name)
    if runs.status(store, name).state == "finished":
        raise RequestError(f"the run {name} is finished; start another to train more")
    found = checkpoint.newest(store, name)
    _connect(run.config)
    tracking = Tracking(Registry(store), run.tracking_id)
    runs.set_status(store, name, Status(state="running", step=found.step if found else 0))
    on_start(run, found.step if found else 0)
    return _see_through(store, run, tracking, on_report)


def _connect(config: RunConfig) -> None:
    scale = config.scale
    cluster.connect(scale.workers * scale.cpus_per_worker)
    cluster.require(scale.workers * scale.cpus_per_worker, scale.workers * scale.gpus_per_worker)


def _see_through(
    store: Store, run: Run, tracking: Tracking, on_report: Callable[[Report], None]
) -> Trained:
    """Train, evaluate, register; whatever happens, the run's status says it."""
    step, metrics = 0, dict[str, float]()

    def seen(report: Report) -> None:
        nonlocal step, metrics
        step, metrics = report.step, report.metrics[-1]
        tracking.log(report)
        on_report(report)

    try:
        _fit(store, run, seen)
        finished = step == run.config.steps or not metrics
        model = _register(store, run, tracking.run_id) if finished else None
    except BaseException as error:
        message = str(error) or type(error).__name__
        runs.set_status(
            store, run.name, Status(state="failed", step=step, metrics=metrics, message=message)
        )
        tracking.end("FAILED")
        raise
    status = Status(
        state="finished" if finished else "stopped",
        step=step,
        metrics=metrics | (model.metrics if model else {}),
        model=model.full_name if model else None,
    )
    runs.set_status(store, run.name, status)
    tracking.end("FINISHED" if finished else "KILLED")
    return Trained(run, runs.status(store, run.name), model)


def _fit(store: Store, run: Run, on_report: Callable[[Report], None]) -> None:
    """Run Ray Train in a thread, and hand on what the workers report meanwhile."""
    import ray

    inbox = start_inbox()
    failure: list[BaseException] = []
    # Ray Train keeps checkpoints of its own here; ours are in the store, so what it writes may be lost.
    scratch = tempfile.mkdtemp(prefix="genloom-ray-")
    trainer = _trainer(Job(store, run.name, run.config, run.dataset, inbox), scratch)

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    stopping = False
    ended = False
    while not ended:
        try:
            thread.join(POLL_S)
            ended = not thread.is_alive()  # asked before the inbox is emptied for the last time
            for report in ray.get(inbox.take.remote()):
                on_report(report)
        except KeyboardInterrupt:
            if stopping:
                raise
            stopping = True
            inbox.stop.remote()
    ray.kill(inbox)
    shutil.rmtree(scratch, ignore_errors=True)
    if failure:
        raise _explain(store, run, failure[0])


def _trainer(job: Job, scratch: str) -> Any:
    import ray.data
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    scale = job.config.scale
    options = ray.data.ExecutionOptions(preserve_order=True)
    ray.data.DataContext.get_current().enable_progress_bars = False
    gpus = scale.gpus_per_worker > 0

    def dataset() -> Any:
        """The stream from where the run stands; Ray calls it whenever it starts the workers."""
        found = checkpoint.newest(job.store, job.run)
        stream = job.stream()
        rounds = max(objective.repeats for objective in stream.trainable.objectives())
        first = (found.step if found else 0) * rounds
        return ray_dataset(stream, first, max(job.config.steps * rounds, first + 1), scale.workers)

    resources = {"CPU": scale.cpus_per_worker} | ({"GPU": scale.gpus_per_worker} if gpus else {})
    return TorchTrainer(
        work,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=300),
        scaling_config=ray.train.ScalingConfig(
            num_workers=scale.workers, use_gpu=gpus, resources_per_worker=resources
        ),
        datasets={"train": dataset},  # pyright: ignore[reportArgumentType]
        dataset_config=ray.train.DataConfig(execution_options=options),
        run_config=ray.train.RunConfig(name=job.run, storage_path=scratch),
    )


def _register(store: Store, run: Run, tracking_id: str) -> Version:
    """Register what a finished run exported, with its evaluation where the dataset has a test split."""
    from genloom_platform.evaluate.evaluate import evaluate_release

    made = release.read(store, f"models/{run.config.model_name}/{run.name}")
    metrics = evaluate_release(store, made) if run.config.evaluate else {}
    return Registry(store).register(made, metrics, tracking_id)


def _explain(store: Store, run: Run, error: BaseException) -> BaseException:
    """A worker's own error where it is one of ours; else one that says where to read on."""
    causes: list[BaseException] = [error]
    for cause in causes:
        if isinstance(cause, GenloomError):
            return cause
        found = [
            *getattr(cause, "worker_failures", {}).values(),
            cause.__cause__,
            getattr(cause, "cause", None),
        ]
        causes += [each for each in found if isinstance(each, BaseException) and each not in causes]
    first = str(causes[-1]).strip().splitlines() or [type(causes[-1]).__name__]
    return TrainingError(
        f"the run {run.name} failed: {type(causes[-1]).__name__}: {first[-1]}; "
        f"its log is {store.url}/runs/{run.name}/logs"
    )
