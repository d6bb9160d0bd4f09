"""Options that several commands share."""

from __future__ import annotations

import argparse
import math
from pathlib import Path


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


def time_scale(text: str) -> float:
    """How much faster than real time a clock runs; "off" and 0: waiting takes no time."""
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
