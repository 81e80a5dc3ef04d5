"""`genloom serve`."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genloom.errors import GenloomError, RequestError
from genloom_platform.cli.screen import console, pairs, say, table

if TYPE_CHECKING:
    from genloom_platform.serve.standing import Standing
    from genloom_platform.serve.wanted import Wanted
    from genloom_platform.store import Store

LOOK_S = 1.0
SHARED = "shared"
"""The pool of all models of a command line."""

STATUS = ("version", "model", "does", "share", "state", "replicas", "since", "requests", "failed")


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Models: name, name@version or name@alias.", metavar="MODEL …"),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(help="The address to listen on (127.0.0.1); beyond loopback keys are asked for."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="The port to listen on (8000).", min=1, max=65535),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Speak TLS with this certificate, a PEM file.", metavar="FILE")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="The certificate's key, a PEM file.", metavar="FILE")
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(help="Pages of this origin may ask from a browser.", metavar="ORIGIN"),
    ] = None,
    ingress: Annotated[
        str | None,
        typer.Option(
            help="What takes the connections: gateway (it itself), or haproxy.", metavar="WHAT"
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A YAML file that says all of it.", metavar="FILE")
    ] = None,
    replicas: Annotated[
        str | None, typer.Option(help="Of each model: 2, 1-4 with load, 0-4 to zero when idle.")
    ] = None,
    hold: Annotated[
        int | None,
        typer.Option(
            help="Let the models share the replicas; each holds so many at once, and loads others when asked.",
            min=1,
            metavar="N",
        ),
    ] = None,
    cpus: Annotated[float | None, typer.Option(help="CPUs of a replica (1).", min=0)] = None,
    gpus: Annotated[float | None, typer.Option(help="GPUs of a replica.", min=0)] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="fp32, bf16 or int8; see genloom models speed.", metavar="PRECISION"),
    ] = None,
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the networks at the start.")
    ] = False,
    canary: Annotated[
        str | None, typer.Option(help="A version on trial, as in image-vae@7.", metavar="MODEL")
    ] = None,
    share: Annotated[str | None, typer.Option(help="Of the requests, to the canary (5%).")] = None,
    shadow: Annotated[
        str | None,
        typer.Option(help="A version that is asked too, its answers thrown away.", metavar="MODEL"),
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Show what is served, and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --status: as JSON, for a program to read.")
    ] = False,
    as_ray_serve: Annotated[
        bool, typer.Option("--as-ray-serve", help="Print the file that `serve deploy` takes, and end.")
    ] = False,
) -> None:
    """Serve models over HTTP until Ctrl-C.

    Where an alias moves, the endpoint goes over to the new version without a failed request.

    Where the environment's GENLOOM_API_KEY is set, or other machines reach the address, callers must show
    that key or one of the store's (genloom keys).
    """
    from genloom_platform.store import Store

    if as_json and not status:
        raise RequestError("--json tells how endpoints stand; give --status too, or leave it out")
    if status:
        _status(Store(), as_json)
        return
    each: dict[str, Any] = {"replicas": replicas, "cpus": cpus, "gpus": gpus}
    shown = {name: str(path) for name, path in (("cert", tls_cert), ("key", tls_key)) if path}
    place: dict[str, Any] = {"host": host, "port": port, "cors": cors, "ingress": ingress}
    place["tls"] = shown or None
    place = {name: value for name, value in place.items() if value is not None}
    speed = {"precision": precision, "compile": compile or None}
    each["speed"] = {name: value for name, value in speed.items() if value is not None} or None
    each = {name: value for name, value in each.items() if value is not None}
    asked = _wanted(models or [], config, each, _trials(canary, share, shadow), place, hold)
    if as_ray_serve:
        from genloom_platform.serve import application, keys

        typer.echo(application.as_ray_serve(asked, keys.from_environment()), nl=False)
        return
    _serve(asked, Store(asked.store))


def _trials(canary: str | None, share: str | None, shadow: str | None) -> dict[str, dict[str, Any]]:
    if share is not None and canary is None:
        raise RequestError(f"share = {share}: it is a canary's; name one with --canary")
    trials: dict[str, dict[str, Any]] = {}
    if canary:
        trials["canary"] = {"version": canary} | ({"share": share} if share else {})
    if shadow:
        trials["shadow"] = {"version": shadow}
    return trials


def _wanted(
    models: list[str],
    config: Path | None,
    each: dict[str, Any],
    trials: dict[str, dict[str, Any]],
    place: dict[str, Any],
    hold: int | None = None,
) -> "Wanted":
    """What the command line says, or the file."""
    from genloom_platform.serve import wanted

    if config:
        if models or each or trials or hold:
            raise RequestError(
                f"--config {config} says which models are served and how; leave out what is beside it, "
                f"but for --host, --port, --cors, --ingress and TLS"
            )
        return wanted.checked(wanted.read(config).model_dump() | place, str(config))
    if not models:
        raise RequestError(
            "no model was named; name one or more (genloom models list), or --config FILE"
        )
    each, pools = ({"pool": SHARED}, {SHARED: {**each, "hold": hold}}) if hold else (each, {})
    rows = [{"model": model, **each} for model in models]
    for kind, trial in trials.items():
        name = trial["version"].partition("@")[0]
        tried = [row for row in rows if row["model"].partition("@")[0] == name]
        if not tried:
            raise RequestError(f"{kind} = {trial['version']}: {name} is not served; name it too")
        tried[0][kind] = trial
    return wanted.checked({"models": rows, "pools": pools, **place}, "the command line")


def _serve(asked: "Wanted", store: "Store") -> None:
    """Serve until Ctrl-C, and say what changes."""
    from genloom_platform.serve import keys, launch

    console.lasts = True
    with console.status("starting"):
        url = launch.start_wanted(asked, store)
    names = ", ".join(model.model for model in asked.models)
    say(f"serving {names} at {url}; its page is {url}/docs; Ctrl-C stops it")
    if keys.is_exposed(asked.host) and not asked.tls:
        say(
            "keys travel to it in clear text: give --tls-cert and --tls-key, or let a proxy speak TLS for it"
        )
    try:
        _say_news()
    except KeyboardInterrupt:
        say("stopping")
    finally:
        launch.stop()


def _say_news() -> None:
    """Say what the endpoint's keeper tells, for ever."""
    from genloom_platform.serve import launch

    told = 0
    while True:
        try:
            state = launch.state()
        except GenloomError as error:
            say(str(error))
            time.sleep(10 * LOOK_S)
            continue
        for number, text in state.news:
            if number > told:
                say(f"{time.strftime('%H:%M:%S')} {text}")
                told = number
        time.sleep(LOOK_S)


def _status(store: "Store", as_json: bool) -> None:
    """What the endpoints of a store tell of themselves."""
    from genloom_platform.serve import presence

    endpoints = presence.running(store)
    if as_json:
        told = [each.model_dump(mode="json", exclude={"holder", "routes"}) for each in endpoints]
        typer.echo(json.dumps(told, indent=1))
        return
    if not endpoints:
        say("no endpoint serves models of this store now")
    for endpoint in endpoints:
        pairs([("endpoint", endpoint.url), ("since", endpoint.since)])
        table(STATUS, map(_row, endpoint.versions), "no version runs yet")
        pairs(("happened", text) for text in endpoint.news)


def _row(standing: "Standing") -> tuple[object, ...]:
    does = standing.role if standing.role != "none" else ""
    place = f"{standing.replicas} of pool {standing.pool}" if standing.pool else standing.replicas
    return (
        standing.version,
        standing.model,
        does,
        f"{standing.share:.3g}" if does else "",
        standing.state + (f": {standing.why}" if standing.why else ""),
        place,
        standing.since or "",
        standing.requests if does else "",
        standing.failures if does else "",
    )
