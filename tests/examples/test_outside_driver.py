"""A driver in a package of its own, installed as a user would, works with every command."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spm_gym.instrument.driver import SETTINGS_BEFORE
from tests.support.waiting import PATIENCE_S, wait_until

ROOT = Path(__file__).parents[2]
SMOKE = ["--config", str(ROOT / "configs" / "smoke.yaml")]
QUICK = ["env.creep_wait_s=0", "operation.confirm_s=0", "real.limits.actions_per_hour=null"]


class Lab:
    """A folder to work in, and what finds the package that was installed."""

    def __init__(self, folder: Path, site: Path) -> None:
        self.folder = folder
        path = [str(site), str(ROOT), os.environ.get("PYTHONPATH", "")]
        self._environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *arguments: str) -> tuple[int, str]:
        """Run a program to its end; its status, and all that it said."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out + err

    def spm_gym(self, *arguments: str) -> str:
        """Have a command of spm-gym succeed; what it said."""
        status, output = self.call("-m", "spm_gym", *arguments)
        assert status == 0, output
        return output


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, installed from a copy: pip leaves its traces where it builds."""
    folder = tmp_path_factory.mktemp("site")
    source = folder / "source"
    shutil.copytree(ROOT / "examples" / "outside_driver", source)
    command = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", "pip", *command, "--target", str(folder / "site"), str(source)],
        check=True,
    )
    return folder / "site"


@pytest.fixture
def lab(site: Path, tmp_path: Path) -> Lab:
    return Lab(tmp_path, site)


@contextmanager
def linescope(lab: Lab) -> Iterator[list[str]]:
    """A linescope in a process of its own; the settings that reach it."""
    server = lab.start("-m", "spm_gym_linescope.server", "--port", "0", "--seed", "11")
    assert server.stdout is not None
    try:
        ready = re.search(r"port (\d+)", server.stdout.readline())
        assert ready is not None, "it did not start"
        yield ["--set", "real.driver=linescope", f"real.linescope.port={ready[1]}", *QUICK]
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=PATIENCE_S)


def test_a_driver_that_is_not_installed_is_one_line_that_names_those_that_are(lab: Lab) -> None:
    status, output = lab.call("-m", "spm_gym", "check", "--set", "real.driver=lightscope")
    assert status == 2
    assert output.strip() == (
        "error: setting real.driver = 'lightscope': installed are nanonis, deepspm, linescope"
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["real.driver=linescope", "real.linescope.port=0"], ["real.linescope.port = 0"]),
        (["real.driver=linescope", "real.linescope.prot=1"], ["did you mean 'port'?"]),
        (["real.driver=linescope", "real.linescope.steps=101"], ["limits.coarse_steps = 100"]),
        (["real.linescope.steps=0"], ["real.linescope.steps = 0"]),
    ],
)
def test_its_settings_are_checked_as_ours_are(
    lab: Lab, settings: list[str], words: list[str]
) -> None:
    status, output = lab.call("-m", "spm_gym", "check", "--set", *settings)
    assert status == 2
    assert output.startswith("error: ")
    assert output.count("\n") == 1
    for word in words:
        assert word in output


def test_its_settings_survive_their_own_yaml(lab: Lab) -> None:
    train = str(ROOT / "train.py")
    chosen = ["--set", "real.driver=linescope", "real.linescope.port=7078"]
    status, first = lab.call(train, "--print-config", *chosen)
    assert status == 0
    assert "  linescope:\n    host: 127.0.0.1\n    port: 7078\n" in first
    (lab.folder / "again.yaml").write_text(first)
    assert lab.call(train, "--print-config", "--config", "again.yaml") == (0, first)


@pytest.mark.slow
def test_it_passes_its_own_tests_with_the_contract(lab: Lab) -> None:
    shutil.copytree(ROOT / "examples" / "outside_driver" / "tests", lab.folder / "tests")
    status, output = lab.call("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert status == 0, output


@pytest.mark.slow
def test_check_and_a_rehearsal(lab: Lab) -> None:
    with linescope(lab) as on:
        output = lab.spm_gym("check", *on)
        for words in ("a linescope at 127.0.0.1", "bias 1 V, setpoint 25 pA", "withdraw the tip",
                      "ready; nothing was moved or changed"):  # fmt: skip
            assert words in output
        status, output = lab.call("-m", "spm_gym", "check", "--verify-motor", *on)
        assert status == 2
        assert "a linescope makes no single steps" in output
    train = ["--env", "real", "--dry-run", *SMOKE, "--steps", "3", *on]
    status, output = lab.call(str(ROOT / "train.py"), *train)  # nobody listens any more
    assert status == 0, output
    requests = output.splitlines()
    for request in ("hello", "set speed 8e-08", "row 0", "stop", "withdraw"):
        assert request in requests


@pytest.mark.slow
def test_ten_steps_of_training_then_an_evaluation(lab: Lab) -> None:
    with linescope(lab) as on:
        train = ["--env", "real", *SMOKE, "--steps", "10", "--run-dir", "run", *on]
        status, output = lab.call(str(ROOT / "train.py"), *train)
        assert status == 0, output
        assert "scan stopped, tip withdrawn, settings restored" in output
        status, output = lab.call(str(ROOT / "evaluate.py"), "--run", "run", "--episodes", "1")
        assert status == 0, output
        assert "the tip is withdrawn; automatic approach" in output
        assert "random" in output


@pytest.mark.slow
def test_twenty_images_a_kill_and_what_was_kept(lab: Lab) -> None:
    kept = lab.folder / "run" / SETTINGS_BEFORE
    with linescope(lab) as on:
        output = lab.spm_gym("run", "--env", "real", "--scans", "20", "--run-dir", "short", *on)
        assert "20 images are taken" in output
        assert "tip withdrawn, settings restored" in output
        status, output = lab.call("-m", "spm_gym", "restore", "short")
        assert status == 2
        assert "has restored its settings" in output

        killed_at_work(lab, "--env", "real", "--hours", "100", *on)
        assert kept.is_file()
        killed_at_work(lab, "--resume")
        assert kept.is_file()
        output = lab.spm_gym("restore", "run")
        assert f"taken from {Path('run') / SETTINGS_BEFORE}" in output
        assert "tip withdrawn, settings restored" in output
        assert not kept.exists()
        output = lab.spm_gym(
            "run", "--resume", "--run-dir", "run", "--scans", str(_images(lab) + 5)
        )
        assert "images are taken" in output
        assert "tip withdrawn, settings restored" in output
        status, output = lab.call("-m", "spm_gym", "journal", "run", "--json")
        assert status == 0, output


def killed_at_work(lab: Lab, *arguments: str) -> None:
    """Operate until some images have come, then kill it without a warning."""
    run, before = lab.start("-m", "spm_gym", "run", "--run-dir", "run", *arguments), _images(lab)
    wait_until(lambda: _images(lab) > before + 3 or run.poll() is not None)
    at_work = run.poll() is None
    run.kill()
    assert at_work, run.communicate()
    run.communicate()


def _images(lab: Lab) -> int:
    return len(list((lab.folder / "run" / "scans").glob("*.gsf")))
