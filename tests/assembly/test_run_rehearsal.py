"""A dry run of `spm-gym run` sends nothing and shows what its first conditioning would send."""

from __future__ import annotations

import re
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from spm_gym.cli import main
from spm_gym.config.yaml_file import as_yaml

pytestmark = pytest.mark.usefixtures("fresh_folder")


@contextmanager
def listening() -> Iterator[tuple[list[int], list[socket.socket]]]:
    """Two ports on which a controller could be; all sockets that somebody has connected."""
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        called: list[socket.socket] = []
        yield [one.getsockname()[1], two.getsockname()[1]], called
        for server in (one, two):
            server.setblocking(False)
            with suppress(BlockingIOError):
                called.append(server.accept()[0])


def printed(capsys: pytest.CaptureFixture[str], *settings: str) -> list[str]:
    with listening() as (ports, called):
        options = ["--env", "real", "--dry-run", "--set", f"real.nanonis.ports={ports}", *settings]
        assert main(["run", *options]) == 0
    assert not called
    assert not list(Path().iterdir())
    return capsys.readouterr().out.splitlines()


def test_it_shows_the_first_conditioning_and_connects_to_nobody(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = printed(capsys, "seed=3")
    named = [line for line in lines if line.startswith("# action: ")]
    sent = [line for line in lines if re.match(r"(TipShaper\.Start|Bias\.Pulse)\(", line)]
    assert len(named) == 3
    assert 0 < len(sent) <= 3  # a stall sends a move only
    begins, ends = (
        next(n for n, line in enumerate(lines) if text in line)
        for text in ("conditioning 1 begins", "conditioning 1 ends after 3 actions: good")
    )
    assert all(begins < lines.index(line) < ends for line in sent)
    for line in named:
        depth = re.search(r"dip ([\d.]+) nm", line)
        if depth:
            assert any(f"tip_lift=-{float(depth[1]) * 1e-9}"[:20] in line for line in lines)
    last_act = max(n for n, line in enumerate(lines) if line in sent)
    withdrawn = max(n for n, line in enumerate(lines) if line.startswith("ZCtrl.Withdraw("))
    assert withdrawn > last_act
    assert lines[-1] == "dry run: nothing was sent, nothing was kept"


def test_only_allowed_actions_and_no_program(capsys: pytest.CaptureFixture[str]) -> None:
    program = shlex.join([sys.executable, "-c", "open('started', 'w')"])
    lines = printed(
        capsys, "env.allowed_actions=[stall, pulse +2.5 V]", "operation.clean_action=null",
        f"operation.when_good={as_yaml(program)}",
    )  # fmt: skip
    assert not any(line.startswith("TipShaper.Start(") for line in lines)
    assert any(line.startswith("# not played: after a good image") for line in lines)


def test_a_survey_shows_an_image_and_no_act(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "operation.conditioning=false")
    assert sum(line.startswith("Scan.FrameDataGrab(") for line in lines) >= 1
    assert not any(line.startswith(("TipShaper.Start(", "Bias.Pulse(")) for line in lines)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--env", "real", "--set", "real.limits.dip_nm=1"], "real.limits.dip_nm"),
        (
            [
                "--env",
                "real",
                "--set",
                "real.driver=deepspm",
                "real.imaging.bias_V=1.25",
                "real.imaging.setpoint_pA=100",
            ],
            "cannot show commands",
        ),
        (["--env", "sim"], "--dry-run goes with a new run and --env real"),
        (["--resume"], "--dry-run goes with a new run and --env real"),
    ],
)
def test_what_would_be_refused_is_refused(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--dry-run", *options]) == 2
    assert told in capsys.readouterr().err
