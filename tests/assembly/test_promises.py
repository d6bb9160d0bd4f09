"""Tests and benchmarks that the docs name as proof exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
SCRIPT = re.compile(r"`(?:python )?((?:tests|benchmarks)/[\w/]+\.(?:py|sh))")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_and_benchmark_that_the_docs_name_is_there(page: Path) -> None:
    named = SCRIPT.findall(page.read_text(encoding="utf-8"))
    assert [script for script in named if not (ROOT / script).is_file()] == []


def test_every_promise_names_its_attack() -> None:
    text = (ROOT / "docs" / "safety.md").read_text(encoding="utf-8")
    table = text.partition("## Promise, attack, figure")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 10
    for promise, attack, _ in rows:
        assert SCRIPT.search(attack) or "the same" in attack, promise
