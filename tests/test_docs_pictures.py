"""The pictures of the docs: all there, small, and made by scripts."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def figures() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        yield importlib.import_module("figures")


def test_every_picture_of_the_docs_is_made_by_a_script_and_small(figures: ModuleType) -> None:
    pictures = list(figures.PICTURES.iterdir())
    of_pages = re.findall(r"[\w-]+\.png", (ROOT / "docs" / "screenshots.py").read_text("utf-8"))
    names = {each.name for each in pictures}
    assert set(figures.MAKERS) <= names <= {*figures.MAKERS, *of_pages}
    assert max(each.stat().st_size for each in pictures) <= importlib.import_module("small").LARGEST


def test_every_picture_in_the_docs_is_there() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text("utf-8")):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"
