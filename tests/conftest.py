"""One thread per test process, for the work is small; no deadlines, for machines are noisy.

What a test waits for is a condition, see `waiting`; a time on the clock decides nothing.
"""

import os
import signal
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# NumPy reads the variables when it is imported.
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

pytest.register_assert_rewrite("spm_gym.testing")

from tests.support.browsing import browser, faults, page  # noqa: E402, F401

settings.register_profile(
    "project",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")

# What a shell starts in the background ignores Ctrl-C, and so would everything that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
