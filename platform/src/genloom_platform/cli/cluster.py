"""`genloom cluster`: list, show, up, down, status."""

from typing import Annotated

import typer

from genloom_platform.cli.screen import pairs, say, table

app = typer.Typer(no_args_is_help=True)
Name = Annotated[
    str,
    typer.Argument(help="The cluster, by its profile.", envvar="GENLOOM_CLUSTER", metavar="NAME"),
]


@app.command("list")
def list_() -> None:
    """Every cluster that has a profile here, in clusters/ or in ~/.genloom/clusters; and this machine."""
    from genloom.errors import RequestError
    from genloom_platform import profiles

    rows: list[tuple[str, str, str]] = []
    for name, path in sorted(profiles.available().items()):
        try:
            rows.append((name, _kind(profiles.load(str(path))), str(path)))
        except RequestError as error:
            rows.append((name, f"wrong: {str(error).splitlines()[0]}", str(path)))
    table(("cluster", "started by", "profile"), rows, none="")


@app.command("show")
def show(name: Name) -> None:
    """A cluster's profile."""
    import yaml

    from genloom_platform import profiles

    profile = profiles.load(name)
    values = profile.model_dump(mode="json", exclude_defaults=True)
    say(yaml.safe_dump(values, sort_keys=False).rstrip() if values else "{}")
    say(f"# its token: {profile.token_source.file or profile.token_source.env}")


@app.command("up")
def up(name: Name) -> None:
    """Start a cluster by its own launcher: ray start, ray up, or KubeRay.

    One that is up is brought in line with its file, and its jobs go on; cluster down and up start Ray anew.
    """
    from genloom_platform import launchers, profiles

    profile = profiles.load(name)
    launchers.up(profile)
    say(f"{profile.name} is up; genloom submit --cluster {profile.name} -- train … runs there")


@app.command("down")
def down(
    # Of all, the one that the environment does not name: it is said.
    name: Annotated[str, typer.Argument(help="The cluster, by its profile.", metavar="NAME")],
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
) -> None:
    """End a cluster, and with it all that runs there.

    Nothing is saved. Trainings, sweeps and endpoints of genloom submit go on at the next cluster up; jobs stop ID
    before ends one for good.
    """
    from genloom_platform import launchers, profiles

    profile = profiles.load(name)
    if not yes:
        jobs = ", ".join(launchers.active(profile))
        ended = f"the jobs that run there: {jobs}" if jobs else "every job that runs there"
        say(
            "nothing is saved; trainings, sweeps and endpoints of genloom submit go on at the next genloom "
            "cluster up, and genloom jobs stop ID, before, saves one and ends it for good"
        )
        typer.confirm(f"End {profile.name}, and {ended}?", abort=True)
    launchers.down(profile)
    say(f"{profile.name} is down")


@app.command("status")
def status(name: Name) -> None:
    """Whether a cluster answers, and what it has."""
    from genloom_platform.cli.jobs import reached
    from genloom_platform.jobs.job import list_jobs
    from genloom_platform.jobs.nodes import nodes, room

    with reached(name) as cluster:
        facts, found = cluster.facts, nodes(cluster)
        active = [state for state in list_jobs(cluster) if not state.over]
        pairs(
            [
                ("cluster", cluster.profile.name),
                ("versions", f"Ray {facts.ray}, Python {facts.python}"),
                ("nodes", "\n".join(map(str, found))),
                *room(cluster.profile, found),
                ("jobs", ", ".join(f"{state.id} ({state.word})" for state in active) or "none runs"),
            ]
        )


def _kind(profile: object) -> str:
    from genloom_platform.profiles import KubeRay, Machine, Profile, RayUp

    match profile:
        case Profile(launch=Machine()):
            return "ray start, on this machine"
        case Profile(launch=RayUp()):
            return "ray up"
        case Profile(launch=KubeRay()):
            return "KubeRay"
        case _:
            return "others"
