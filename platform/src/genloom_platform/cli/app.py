"""`genloom`: the command line. Commands import what they need when they run, so help is instant."""

import os
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Annotated

import typer

from genloom.errors import GenloomError
from genloom_platform.cli import (
    cluster,
    data,
    doctor,
    evaluate,
    finetune,
    generate,
    jobs,
    keys,
    plugins,
    registry,
    runs,
    serve,
    speed,
    submit,
    sweep,
    train,
    ui,
)
from genloom_platform.cli.screen import complain
from genloom_platform.jobs import origin

app = typer.Typer(
    help="Train, evaluate and serve generative models on a Ray cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(
    data.app,
    name="data",
    help="Datasets: import, clean, augment, annotate, show, export.",
)
app.command("train")(train.train)
app.command("finetune")(finetune.finetune)
app.add_typer(runs.app, name="runs", help="Runs: list, show, logs, stop.")
app.command("sweep")(sweep.sweep)
app.add_typer(sweep.app, name="sweeps", help="Sweeps: list, show, report.")
app.command("evaluate")(evaluate.evaluate)
app.add_typer(
    registry.app, name="models", help="Registered models: show, compare, promote, take along."
)
registry.app.command("speed")(speed.speed)
app.command("generate")(generate.generate)
app.command("serve")(serve.serve)
app.add_typer(keys.app, name="keys", help="Who may ask an endpoint: add, list, revoke.")
# From its first word on, all is the job's command, with and without the dashes before it.
app.command("submit", context_settings={"allow_interspersed_args": False})(submit.submit)
app.add_typer(jobs.app, name="jobs", help="Jobs on a cluster: list, status, logs, stop.")
app.add_typer(cluster.app, name="cluster", help="Clusters: list, show, up, down, status.")
app.add_typer(plugins.app, name="plugins", help="Generators and predictors: list, check, new.")
app.command("ui")(ui.ui)
app.command("doctor")(doctor.doctor)

GLOBAL = {"--debug": 1, "--store": 2}
"""Options that may stand anywhere, and how many words each takes."""


@app.callback()
def options(
    context: typer.Context,
    store: Annotated[
        str | None,
        typer.Option(
            help="Where datasets, runs and models live: file:///… or s3://…", envvar="GENLOOM_STORE"
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,  # noqa: ARG001
) -> None:
    """Options of all commands."""
    if context.invoked_subcommand != "doctor":  # which tells of every machine what it lacks
        origin.check_secrets()
    if store:
        os.environ["GENLOOM_STORE"] = store


def main() -> None:
    """Run a command. Exit status: 0 done, 1 the work failed, 2 the request was wrong."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite end, as Ctrl-C asks for it
    arguments = _global_first(sys.argv[1:])
    debug = "--debug" in _before_dashes(arguments)
    try:
        with _kept():
            app(arguments, prog_name="genloom")
    except GenloomError as error:
        if debug:
            raise
        complain(str(error))
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        complain("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has gone, as `head` does; there is no one to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, ModuleNotFoundError) and not find_spec("torch"):
            complain(
                f"{error.name} is not installed here, so this machine is a cluster's client alone; "
                f"genloom submit --cluster NAME -- {' '.join(arguments)} runs it there, or "
                "pip install genloom-platform[engines]"
            )
            sys.exit(2)
        complain(f"{type(error).__name__}: {error} (this should not happen; --debug shows where)")
        sys.exit(1)


def _kept() -> AbstractContextManager[None]:
    """Within a job, what keeps it for the case that its cluster's head dies."""
    if origin.job() is None:
        return nullcontext()
    from genloom_platform.jobs import keep

    return keep.kept(sys.argv[1:])


def _before_dashes(words: list[str]) -> list[str]:
    """The words that are this command's own; those after -- are a job's."""
    return words[: words.index("--")] if "--" in words else words


def _global_first(words: list[str]) -> list[str]:
    """The words with the global options, wherever they stood, before the command; those after -- are a job's."""
    first: list[str] = []
    rest: list[str] = []
    while words and words[0] != "--":
        name = words[0].partition("=")[0]
        taken = 1 if "=" in words[0] else GLOBAL.get(name, 1)
        (first if name in GLOBAL else rest).extend(words[:taken])
        words = words[taken:]
    return first + rest + words
