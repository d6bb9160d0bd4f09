"""The command line as a whole."""

from __future__ import annotations

import pytest

from spm_gym.cli import main


def test_help_of_the_command_line_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    for name in ("run", "condition", "compare", "virtual-nanonis", "deepspm-server"):
        assert f"\n    {name}" in out
