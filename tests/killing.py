"""Processes of an endpoint, found by their titles, and killed."""

import time

import psutil

FOUND_S = 10
"""Ray gives a process another title for each call, and one that is being written may be missed."""


def processes(name):
    """Those whose title holds a name."""
    return [each for each in psutil.process_iter() if name in " ".join(_words(each))]


def kill(name, which=0):
    """Kill one of them, as soon as there is one."""
    until = time.monotonic() + FOUND_S
    while not (found := processes(name)):
        assert time.monotonic() < until, f"there is no process {name}"
        time.sleep(0.05)
    found[which].kill()


def _words(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []
