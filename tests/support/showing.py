"""Common parts of the tests of spm-gym show."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from PIL import Image

from spm_gym.assembly.run_directory import write_settings
from spm_gym.cli import run_command, show
from spm_gym.runner.states import State
from tests.support.scripted_runs import Verdicts, lab

NM = 1e-9
BAD, GOOD = 0.05, 0.97


def week_12(runs: Path) -> Path:
    """Four bad images in a row begin an episode of several actions; then it goes on well."""
    folder = runs / "week 12"
    folder.mkdir()
    verdicts = Verdicts(GOOD, *[BAD] * 8, GOOD)
    settings = ("operation.condition_after=4", "operation.scans=16", "operation.learn=false")
    with lab(folder, verdicts, *settings) as it:
        it.until(State.STOP)
        write_settings(folder / "config.yaml", it.config)
    return folder


def show_command(*arguments: object) -> int:
    parser = ArgumentParser()
    show.add_arguments(parser)
    return run_command(parser, [str(each) for each in arguments])


def colours(path: Path) -> int:
    with Image.open(path) as picture:
        return len(set(picture.convert("RGB").get_flattened_data()))
