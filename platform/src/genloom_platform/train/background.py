"""What goes on beside the training: something done again and again while a block runs, and Ctrl-C."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def repeating(action: Callable[[], None], every_s: float) -> Generator[None]:
    """Call something at once and then every so many seconds, in a thread, until the block ends."""
    ended = threading.Event()

    def repeat() -> None:
        while True:
            action()
            if ended.wait(every_s):
                return

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def interruptions() -> Generator[threading.Event]:
    """Ctrl-C and SIGTERM as an event, which tears nothing in its middle; the second one as KeyboardInterrupt.

    An exception may come anywhere: in `Thread.join`, after which Python 3.11 takes a thread that runs for one
    that has ended; or between an answer and what is done with it. Only the main thread hears of signals.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def press(*_: Any) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    kept = {number: signal.signal(number, press) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield pressed
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler or signal.SIG_DFL)
