"""A driver as a program: trains, and prints what it is told as lines of JSON."""

import json
import sys

from genloom_platform.config import read_values, resolve
from genloom_platform.store import Store
from genloom_platform.train import launch


def say(**words):
    print("news " + json.dumps(words), flush=True)


def main(generator, *words):
    """Train a generator on the digits, with settings as on the command line."""
    store = Store()

    def on_report(report):
        for index, metrics in enumerate(report.metrics):
            say(step=report.step - len(report.metrics) + 1 + index, metrics=metrics)

    done = launch.train(
        store,
        resolve(read_values(generator, ["data=digits", "evaluate=false", *words]), store),
        on_start=lambda run, step: say(run=run.name),
        on_report=on_report,
        on_event=lambda message: say(event=message),
    )
    say(state=done.status.state, step=done.status.step)


if __name__ == "__main__":
    main(*sys.argv[1:])
