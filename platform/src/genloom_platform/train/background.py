"""What goes on beside the training: something done again and again while a block runs."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


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
