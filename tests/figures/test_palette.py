"""Colours are chosen in one module; pages repeat them, and agree."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import spm_gym
from spm_gym import colours
from spm_gym.journal.conditions import UNDECIDED
from spm_gym.journal.reader import Label

PACKAGE = Path(spm_gym.__file__).parent
HEX = re.compile(r"#(?:[0-9a-fA-F]{8}|[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b")


def hex_colours(source: str) -> list[int]:
    """Lines of the string literals that hold a colour."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and HEX.search(node.value)
    ]


def test_no_other_module_has_colours_of_its_own() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "colours.py"
        for line in hex_colours(path.read_text("utf-8"))
    ]
    assert not found
    assert hex_colours((PACKAGE / "colours.py").read_text("utf-8"))


def test_every_label_of_an_image_has_a_colour() -> None:
    assert {*Label, UNDECIDED} - {Label.DISCARDED} == {*colours.LABELS}


def test_labels_are_told_apart_by_their_colours() -> None:
    assert len(set(colours.LABELS.values())) == len(colours.LABELS)


def test_the_pages_have_the_same_colours() -> None:
    style = (PACKAGE / "web" / "static" / "pages.css").read_text("utf-8")
    variables = dict(re.findall(r"--([\w-]+): (#\w+);", style))
    for label, colour in colours.LABELS.items():
        assert variables[label.removeprefix("bad ") if label != "bad probe" else "bad"] == colour
    live = (PACKAGE / "web" / "static" / "monitor.css").read_text("utf-8")
    unsafe = re.search(r"\.status\[data-unsafe\] \{ background: (#\w+);", live)
    assert unsafe is not None
    assert unsafe[1] == colours.ALARM
