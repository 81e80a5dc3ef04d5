"""`genloom keys`: who may ask this store's endpoints."""

from typing import Annotated

import typer

from genloom_platform.cli.screen import say, table

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="What lists and logs call the key.")]


@app.command("add")
def add(
    name: Name,
    rate: Annotated[
        str | None, typer.Option(help="Requests in a time, as in 10/s or 600/min.", metavar="N/TIME")
    ] = None,
    concurrent: Annotated[
        int | None, typer.Option(help="Requests that may be answered at once.", min=1)
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="How long the key counts, as in 12h, 30d or 8w.", metavar="TIME")
    ] = None,
) -> None:
    """Make a key and print it, once: it cannot be shown again. Endpoints know it within seconds."""
    from genloom_platform.serve import keyring
    from genloom_platform.serve.limits import Limits, Rate
    from genloom_platform.store import Store

    limits = Limits(rate=Rate.read(rate) if rate else None, concurrent=concurrent)
    lasts_s = keyring.duration_s(expires) if expires else None
    say(keyring.add(Store(), name, limits, lasts_s))


@app.command("list")
def list_() -> None:
    """The keys of the store, without the keys themselves."""
    import time

    from genloom_platform.serve import keyring
    from genloom_platform.store import Store

    def day(at: float) -> str:
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))

    rows: list[tuple[str, ...]] = []
    for name, record in keyring.records(Store()).items():
        ends = "never" if record.expires is None else day(record.expires)
        state = " (over)" if record.has_expired(time.time()) else ""
        limits = record.limits
        rows.append(
            (
                name,
                day(record.created),
                ends + state,
                str(limits.rate or ""),
                str(limits.concurrent or ""),
            )
        )
    hint = "no key yet: genloom keys add NAME"
    table(("name", "made (UTC)", "ends (UTC)", "rate", "at once"), rows, hint)


@app.command("revoke")
def revoke(name: Name) -> None:
    """End a key; endpoints turn it away within seconds."""
    from genloom_platform.serve import keyring
    from genloom_platform.store import Store

    keyring.revoke(Store(), name)
    say(f"the key {name!r} is revoked")
