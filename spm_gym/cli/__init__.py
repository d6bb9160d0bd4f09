"""Command line: ``spm-gym COMMAND``; also behind train.py and evaluate.py."""

from __future__ import annotations

import argparse
import io
import signal
import sqlite3
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import FrameType
from typing import Any

from spm_gym.config import ConfigError
from spm_gym.config.yaml_file import plain
from spm_gym.errors import InstrumentError, UsageError
from spm_gym.runner.signals import is_interrupt

Command = Callable[[argparse.Namespace], int]
_COMMANDS = ("run", "condition", "monitor", "ask", "stop", "report", "compare", "show", "journal",
             "export", "label", "train", "evaluate", "check", "restore", "virtual-nanonis",
             "deepspm-server")  # fmt: skip
# An error may quote a whole reply of an instrument, or a file.
_LONGEST_MESSAGE = 2000


def run_command(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Parse, run the parser's ``command``, and turn what users get wrong into one line.

    Returns:
        Exit status: 0 done, 2 refused or failed, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may be anything
            stream.reconfigure(errors="backslashreplace")
    namespace = parser.parse_args(arguments)
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):  # asked to end, terminal closed, Windows
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)
    try:
        command: Command = namespace.command
        return command(namespace)
    except (ConfigError, UsageError, InstrumentError, OSError, ValueError, sqlite3.Error) as error:
        if not _is_for_users(error):
            raise
        # In one line without control characters: parts of it come from files and instruments.
        return _fail(plain(" ".join(_in_words(error).split()), _LONGEST_MESSAGE))
    except ModuleNotFoundError as error:
        return _fail(f"the package {error.name!r} is missing: run 'make install'")
    except BaseException as error:
        if not is_interrupt(error):
            raise
        print("interrupted", file=sys.stderr)
        return 130


def _is_for_users(error: Exception) -> bool:
    """Tell messages from faults of ours: a bare ValueError is one, and keeps its traceback."""
    return type(error) is not ValueError


def _in_words(error: Exception) -> str:
    """Write an error as a sentence; the system's own messages begin with a number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename} cannot be used: {error.strerror.lower()}"
    return str(error)


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    # As Ctrl-C does, so that every request to end takes the same way to the safe condition.
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    parser = argparse.ArgumentParser(
        prog="spm-gym", description="Let a scanning-probe microscope condition its own probe."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in _COMMANDS:
        # Here, not above: train and evaluate import this module, and need none of the others.
        module = import_module(f"spm_gym.cli.{name.replace('-', '_')}")
        # The first line of a module says what its command does; it is written nowhere else.
        summary = (module.__doc__ or "").partition("\n")[0]
        # argparse takes a per cent sign in either for the beginning of a placeholder.
        text = summary.replace("%", "%%")
        options: Any = {"help": text, "description": text}
        module.add_arguments(commands.add_parser(name, **options))
    return run_command(parser, arguments)
