"""Signals that ask a program to end, kept away while the instrument is made safe."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any


def is_interrupt(error: BaseException) -> bool:
    """Recognise Ctrl-C and the like.

    If it comes while a compiled function is being entered, Numba makes a SystemError of it.
    """
    interrupts = (error, error.__cause__) if isinstance(error, SystemError) else (error,)
    return any(isinstance(each, KeyboardInterrupt) for each in interrupts)


def interrupting_signals() -> list[signal.Signals]:
    """List the signals of Ctrl-C, a request to end and a closing terminal that this system has."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def put_back(handlers: Mapping[signal.Signals, Any]) -> None:
    """Install handlers that `signal.getsignal` has given."""
    for number, handler in handlers.items():
        # None stands for a handler from outside Python, which cannot be installed again.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def ignoring_signals(
    message: str = "the instrument is being made safe: please wait",
) -> Iterator[None]:
    """Ignore Ctrl-C and the like, with a message."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return

    def refuse(number: int, frame: Any) -> None:
        with suppress(OSError):  # the terminal may be gone, and that must not end it either
            # Not print: a signal may come in the middle of one, and streams are not made to be
            # entered twice.
            os.write(2, f"{message}\n".encode())

    before = {number: signal.signal(number, refuse) for number in interrupting_signals()}
    try:
        yield
    finally:
        put_back(before)
