"""How much of the machine the numerical libraries of this process take."""

from __future__ import annotations

import ctypes
import platform
import signal
import sys
import threading
from functools import cache
from types import FrameType
from typing import Any

from numba.core import event
from threadpoolctl import threadpool_limits

from spm_gym.runner.signals import interrupting_signals

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Names of the C library's settings, from its header malloc.h."""


def prepare_process(threads: int | None) -> None:
    """Do what every command that computes does first."""
    limit_threads(threads)
    keep_freed_memory()
    announce_compiling()


def limit_threads(count: int | None) -> None:
    """Set the threads of torch and of the linear algebra below NumPy, once and for all.

    Work on small images gains nothing from a second thread and can lose a factor of sixty.

    Args:
        count: How many; None leaves them as they are.
    """
    if count is None:
        return
    import torch  # slow to import, and servers do without

    torch.set_num_threads(count)
    threadpool_limits(count)


def keep_freed_memory() -> None:
    """Have blocks of up to 32 MB used again instead of given back to the system and fetched again.

    Otherwise every gradient step touches two thousand new pages, a tenth of its time. Only the GNU
    C library needs these settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    library.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
    library.mallopt(_M_TRIM_THRESHOLD, 2**30)


class _Announcement(event.Listener):
    """Prints once that a compiler is at work."""

    _printed = False

    def on_start(self, event: Any) -> None:
        if not self._printed:
            self._printed = True
            print("compiling, the first time only, up to half a minute ...", file=sys.stderr)

    def on_end(self, event: Any) -> None:
        """Print nothing."""


class _Uninterrupted(event.Listener):
    """Puts Ctrl-C and the like off until the compiler has finished.

    LLVM calls back into Python, also to read what was compiled before. An exception there ends the
    process on the spot, with the tip where it is.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._before: dict[signal.Signals, Any] = {}
        self._put_off: list[int] = []

    def on_start(self, event: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # signals reach the main thread only
        if self._depth == 0:
            self._before = {number: signal.getsignal(number) for number in interrupting_signals()}
            try:
                for number in self._before:
                    signal.signal(number, self._note)
            except BaseException:
                self._restore()
                raise
        self._depth += 1

    def on_end(self, event: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._depth -= 1
        if self._depth == 0:
            self._restore()
            noted, self._put_off = self._put_off, []
            for number in noted[:1]:
                signal.raise_signal(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._put_off.append(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@cache
def announce_compiling() -> None:
    """Announce a compiler at work, and let nothing interrupt it."""
    event.register("numba:compile", _Announcement())  # type: ignore[no-untyped-call]
    event.register("numba:compiler_lock", _Uninterrupted())  # type: ignore[no-untyped-call]
