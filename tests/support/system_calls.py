"""Watches the system calls of a process with strace, and has it killed at one of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

CALLS = ("write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink",
         "unlinkat", "openat", "sendto", "recvfrom", "flock", "fcntl")  # fmt: skip
"""By which a run changes files, speaks with a controller, and locks."""

CREATES = "openat(O_CREAT)"

_LINE = re.compile(r"(?P<pid>\d+) +(?P<call>\w+)\((?P<arguments>.*)")
_DESCRIPTOR = re.compile(r"\d+<(.*?)>")
_QUOTED = re.compile(r'"(.*?)"')
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Call:
    """A system call of a process's main thread.

    Attributes:
        name: Of the call.
        number: Among the calls of this name since strace was attached, from 1.
        target: Its file's name without numbers, or "socket".
        creates: Whether it may create the file that it opens.
    """

    name: str
    number: int
    target: str
    creates: bool

    @property
    def kind(self) -> str:
        """The call, named as in the figures."""
        return CREATES if self.creates else self.name


def untraceable() -> str:
    """Why no process can be traced here; "" if one can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "-e", "trace=none", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if not tried.returncode else f"strace traces nothing: {tried.stderr.strip()}"


class Tracer:
    """Attaches strace to a process, which waits for it.

    Args:
        trace: File for what the process calls.
        at: The call at which something happens; None: only look.
        error: What this call and all later ones of its name answer instead of being carried out,
            such as "EIO"; "": the process is killed before it.
    """

    def __init__(self, trace: Path, at: Call | None = None, error: str = "") -> None:
        self.trace = trace
        self._at = at
        self._error = error
        self._strace: subprocess.Popen[str] | None = None

    def attach(self, pid: int) -> None:
        """Trace the process from now on, until it ends."""
        command = ["strace", "-f", "-y", "-qq", "-s", "0", "-o", str(self.trace),
                   "-e", f"trace={','.join(f'?{call}' for call in CALLS)}",
                   "-e", "signal=none", "-p", str(pid)]  # fmt: skip
        if self._at is not None:
            happens = f"error={self._error}" if self._error else "signal=KILL"
            when = f"{self._at.number}+" if self._error else self._at.number
            command[1:1] = ["-e", f"inject={self._at.name}:{happens}:when={when}"]
        self._strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while not _is_traced(pid):
            if self._strace.poll() is not None:
                assert self._strace.stderr is not None
                raise RuntimeError(f"strace: {self._strace.stderr.read().strip()}")
            time.sleep(0.001)

    def calls(self, pid: int) -> list[Call]:
        """Calls of the main thread, after the process has ended."""
        assert self._strace is not None
        self._strace.communicate()
        return _parse(self.trace.read_text(encoding="utf-8", errors="replace"), pid)


def _is_traced(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return not re.search(r"^TracerPid:\s+0$", status, re.MULTILINE)


def _parse(trace: str, pid: int) -> list[Call]:
    calls: list[Call] = []
    met: dict[str, int] = {}
    for line in trace.splitlines():
        found = _LINE.match(line)
        if found is None or int(found["pid"]) != pid:
            continue  # another thread, the end of a call that one has interrupted, or of all
        name, arguments = found["call"], found["arguments"]
        met[name] = met.get(name, 0) + 1
        creates = name == "openat" and "O_CREAT" in arguments
        calls.append(Call(name, met[name], _target(name, arguments), creates))
    return calls


def _target(name: str, arguments: str) -> str:
    by_path = name.startswith(("openat", "rename", "unlink"))
    found = (_QUOTED if by_path else _DESCRIPTOR).search(arguments)
    if found is None:
        return ""
    what = found[1].split(":[")[0]  # of a socket or a pipe nothing but its number follows
    return _NUMBER.sub("#", what.rsplit("/", 1)[-1])
