"""Options that several commands share."""

from __future__ import annotations

import argparse
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
