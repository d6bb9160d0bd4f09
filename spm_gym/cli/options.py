"""Options that several commands share."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from spm_gym.errors import UsageError

_TOKEN_VARIABLE = "SPM_GYM_TOKEN"


def add_config(parser: argparse.ArgumentParser, purpose: str = "settings (YAML)") -> None:
    """Declare ``--config``."""
    parser.add_argument("--config", type=Path, metavar="FILE", help=purpose)


def add_set(parser: argparse.ArgumentParser, example: str) -> None:
    """Declare ``--set``, which may be given several times."""
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="key=value",
        help=f"change single settings, for example {example}",
    )


def add_env(parser: argparse.ArgumentParser) -> None:
    """Declare ``--env``."""
    parser.add_argument(
        "--env", choices=["sim", "real"], help="sets run.microscope; real: that of real.driver"
    )


def add_run_directory(parser: argparse.ArgumentParser, default: str) -> None:
    """Declare ``--run-dir``, ``--resume``, ``--fresh-area`` and ``--log-commands``."""
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help=f"default: {default}")
    parser.add_argument("--resume", action="store_true", help="continue --run-dir, or the newest")
    parser.add_argument(
        "--fresh-area",
        action="store_true",
        help="with --resume, or a run's --sample: the microscope was moved to a fresh approach "
        "area by hand",
    )
    add_log_commands(parser, "commands.jsonl in the run directory")


def add_token(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Declare ``--token``; in the environment, no list of processes would have it."""
    parser.add_argument(
        "--token",
        type=_token,
        # An empty variable is no token: an empty one would protect nothing.
        default=os.environ.get(_TOKEN_VARIABLE) or None,
        metavar="T",
        help=f"{purpose}; or in the environment as {_TOKEN_VARIABLE}",
    )


def add_log_commands(parser: argparse.ArgumentParser, default: str) -> None:
    """Declare ``--log-commands``; given without a file it is ""."""
    parser.add_argument(
        "--log-commands",
        nargs="?",
        const="",
        metavar="FILE",
        help="log every command to the controller with its answer (JSON lines, at most 20 files of "
        f"50 MB); default: {default}. For example '--log-commands today.jsonl'; "
        "'spm-gym virtual-nanonis --replay today.jsonl' answers from it",
    )


def add_force(parser: argparse.ArgumentParser) -> None:
    """Declare ``--force``, for commands that write files of any name."""
    parser.add_argument("--force", action="store_true", help="overwrite a file that is there")


def refuse_unwritable(option: str, path: Path | None, force: bool) -> None:
    """Refuse a file to write that is there already, or has no folder, before any work is done.

    Raises:
        UsageError: The message names what is in the way.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent} to write it into")
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder: name the file in it")
    if path.exists() and not force:
        raise UsageError(f"{option} {path} exists: name another file, or overwrite with --force")


def _token(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("the token must be text (UTF-8)") from None
    if not text:
        raise argparse.ArgumentTypeError("the token must not be empty")
    return text


def seconds(text: str) -> float:
    """Parse a duration, s."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    # Written so that NaN fails, too.
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"seconds are a number from 0 up, not {text!r}")
    return value


def time_scale(text: str) -> float:
    """Parse how much faster than real time a clock runs; "off" and 0: waiting takes no time."""
    if text == "off":
        return 0.0
    try:
        scale = float(text)
    except ValueError:
        scale = -1.0
    if not 0 <= scale < math.inf:
        raise argparse.ArgumentTypeError(
            f"a time scale is a number from 0 up, or off, not {text!r}"
        )
    return scale
