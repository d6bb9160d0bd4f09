from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from spm_gym.assembly.process import limit_threads

TOUCH = """
import resource, sys
import numpy as np
from spm_gym.assembly.process import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(6):
    blocks = [np.ones(2**18) for _ in range(20)]
    del blocks
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def new_pages(how: str) -> int:
    """Pages that a process touches for the first time while it uses 40 MiB again and again."""
    command = [sys.executable, "-c", TOUCH, how]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    counts = [int(line) for line in output.split()]
    return counts[-1] - counts[2]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep it anyway")
@pytest.mark.skipif(
    HUGE_PAGES.exists() and "[always]" in HUGE_PAGES.read_text(),
    reason="a page of 2 MiB stands for 512 of those that are counted",
)
def test_freed_memory_is_used_again() -> None:
    assert new_pages("give back") > 1000
    assert new_pages("keep") < 100


def test_threads_that_are_started_later_keep_to_the_limit() -> None:
    """The learning thread is one."""
    counts = []
    thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    limit_threads(1)
    try:
        thread.start()
        thread.join()
    finally:
        torch.set_num_threads(before)
    assert counts == [1]


def test_anybody_waits_for_the_compiler_is_told_once(tmp_path: Path) -> None:
    program = """
import numpy as np
from spm_gym.assembly.process import prepare_process
from spm_gym.envs.regions import RegionMap
from spm_gym.config import RegionConfig

prepare_process(1)
prepare_process(1)
RegionMap(RegionConfig(), 1e-8).next_region(None, np.random.default_rng(0))
"""
    for expected in (1, 0):
        done = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True,
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
        )  # fmt: skip
        assert done.stderr.count("compiling") == expected


def test_nobody_interrupts_the_compiler() -> None:
    """Ctrl-C comes in the middle of it, and takes effect when it is over."""
    program = """
import os, signal
import numba
from numba.core import event
from spm_gym.assembly.process import announce_compiling

announce_compiling()

class Impatient(event.Listener):
    def on_start(self, event):
        os.kill(os.getpid(), signal.SIGINT)

    def on_end(self, event):
        pass

event.register("numba:compile", Impatient())

@numba.njit
def double(x):
    return 2 * x

try:
    double(1)
except KeyboardInterrupt:
    print("interrupted", len(double.signatures))
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["interrupted", "1", "True"], done.stderr
