"""``spm-gym virtual-nanonis`` as its user sees it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from spm_gym.cli import main
from spm_gym.config import Config
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import CommandFailed
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.instrument.nanonis.driver import connect
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Frame
from tests.support.virtual import nanonis_settings, silent, virtual_nanonis

READY = "virtual Nanonis R13742 on 127.0.0.1 ports "


def test_it_says_when_it_is_ready_serves_the_world_of_a_reset_and_ends_when_told(
    tmp_path: Path,
) -> None:
    command = [
        sys.executable, "-m", "spm_gym", "virtual-nanonis", "--ports", "0", "0", "--seed", "3",
        "--time-scale", "off", "--release", "13742",
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            ready = process.stdout.readline()
            assert ready.startswith(READY), process.stderr.read()
            assert ready.endswith("; Ctrl-C ends it\n")
            assert ", time scale off, seed 3, saved scans in " in ready
            session = Path(ready.partition("saved scans in ")[2].partition(";")[0])
            assert session.is_dir()
            ports = ready.removeprefix(READY).partition(",")[0].split()
            scan = image(tuple(int(port) for port in ports))
        finally:
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate()
    assert (process.returncode, output, errors) == (0, "ended\n", "")
    assert list(tmp_path.iterdir()) == []
    assert not session.exists()
    assert np.array_equal(scan, image_of_a_reset(seed=3))


def image(ports: tuple[int, ...]) -> np.ndarray:
    instrument = connect(nanonis_settings(ports=ports), silent())
    try:
        return instrument.scan(Frame(0.0, 0.0, 1e-8, 64)).z
    finally:
        instrument.close()


def image_of_a_reset(seed: int) -> np.ndarray:
    """The first image in the world that a reset of the simulated environment begins."""
    microscope = SimulatedMicroscope(Config().simulator)
    config = Config().env.model_copy(update={"damage": False})
    env = ProbeConditioningEnv(microscope, lambda images: np.zeros(len(images)), config)
    restarted = []
    microscope.restart = lambda seed: restarted.append(seed)  # type: ignore[method-assign]
    env.reset(seed=seed)
    area = config.regions.area_nm
    return (
        SimulatedMicroscope(Config().simulator, area, restarted[0])
        .scan(Frame(0.0, 0.0, 1e-8, 64))
        .z
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "simulator.crash_rat=1"], ["simulator.crash_rat", "crash_rate"]),
        (["--faults", "none.yaml"], ["cannot read none.yaml"]),
        (["--replay", "none.jsonl"], ["none.jsonl cannot be used: no such file"]),
        (["--replay", "none.jsonl", "--time-scale", "9"], ["--time-scale", "--replay"]),
        (["--log-commands", "none/log.jsonl"], ["--log-commands", "there is no folder none"]),
        (["--without", "Tip"], ["--without: there is no module 'Tip'", "TipShaper"]),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    assert main(["virtual-nanonis", "--ports", "0", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert all(word in error for word in words)


def test_other_readings_and_modules_that_are_not_running() -> None:
    options = ("--zero-filled", "--without", "Marks", "--without", "tiprec")
    with virtual_nanonis(*options) as ports:
        connection = Connection("127.0.0.1", ports[0], timeout=60, release=14718)
        connection.connect()
        grabbed = connection.call("Scan.FrameDataGrab", channel_index=30, direction=1)
        assert (grabbed["data"] == 0).all()
        for command in ("Marks.PointsGet", "TipRec.BufferSizeGet"):
            with pytest.raises(CommandFailed, match="make sure it is running"):
                connection.call(command)
        connection.close()


def test_a_busy_port_names_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["virtual-nanonis", "--ports", str(port)]) == 2
    error = capsys.readouterr().err
    assert f"port {port}" in error
    assert "--ports" in error
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("port")]


def test_other_hosts_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["virtual-nanonis", "--host", "0.0.0.0", "--ports", str(port)]) == 2
    assert "no authentication" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--ports", "x"],
        ["--ports", "6504-6501"],
        ["--ports", "70000"],
        ["--time-scale", "-1"],
        ["--time-scale", "inf"],
        ["--time-scale", "fast"],
        ["--release", "1"],
        ["--retract", "x+"],
    ],
)
def test_impossible_options(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["virtual-nanonis", *arguments])
    assert arguments[0] in capsys.readouterr().err
