"""SQL stands in two rooms only, where everybody who counts finds it and counts the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import spm_gym

PACKAGE = Path(spm_gym.__file__).parent
ROOMS = ("journal", "analysis")
SQL = re.compile(r"\b(SELECT|INSERT INTO|DELETE FROM|UPDATE\b.*\bSET|PRAGMA)\b", re.DOTALL)


def queries(source: str) -> list[int]:
    """Lines of the string literals that hold SQL."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value)
    ]


def test_queries_are_recognised() -> None:
    assert queries('x = f"SELECT {y} FROM scans"') == [1]
    assert queries('\nx = """\nUPDATE scans\nSET label = 1"""') == [2]
    assert queries('"""Select what to update, and set it."""') == []


def test_no_other_room_has_sql() -> None:
    sources = {path.relative_to(PACKAGE): path for path in PACKAGE.rglob("*.py")}
    found = {path: queries(file.read_text("utf-8")) for path, file in sources.items()}
    assert any(found[path] for path in found if path.parts[0] == "analysis")
    outside = [
        f"{path}:{line}"
        for path, lines in found.items()
        if path.parts[0] not in ROOMS
        for line in lines
    ]
    assert not outside
