"""The house keeps its rules: the field's words, short files and functions, plain docstrings."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = ("spm_gym", "agents")
ROOMS = (*CODE, "tests", "benchmarks", "docs", "configs", "examples")
TEXTS = (".py", ".md", ".html", ".js", ".css", ".sql", ".yaml")
LONGEST_FILE, LONGEST_FUNCTION = 400, 50

PRIVATE_WORDS = [
    "judge", "judges", "judged", "judging", "arm", "arms", "chooser", "choosers", "chance", "look",
    "looks", "seen", "shown", "suffer", "suffers", "befall", "befalls", "abandon", "abandons",
    "abandoned", "undisturbed", "equip", "foresee", "begun", "tell", "tells", "say", "says",
    "labview", "wanted", "lest", "whoever", "anew", "mend", "mends", "mended",
]  # fmt: skip
"""Parts of names that were a private vocabulary; the field has words for all of them."""

PRIVATE_NAMES = ("way",)
"""Whole names that say nothing."""

SENTENCES = {"looks", "look", "seen", "shown", "tell", "tells", "say", "says", "wanted"}
"""Words that are verbs in the sentence that a test's name is."""

PRIVATE_PROSE = re.compile(
    r"\b(lest|whoever|anew|befalls?|suffers?|mend(s|ed|ing)?|judge[sd]?|judging|judgements?|choosers?"
    r"|undisturbed|abandon(s|ed|ing)?|begun|labview|by chance)\b|\bway out\b"
)
"""In comments, docstrings, messages, pages and docs. LabVIEW is a product and keeps its name."""

BAD_BEGINNINGS = ("What ", "The same.", "As many.")
"""Of docstrings: they make the reader guess."""

THIS = Path(__file__).name


def texts() -> list[Path]:
    found = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file()]
    found += [*ROOT.glob("*.md"), *ROOT.glob("*.py"), ROOT / "Makefile", ROOT / "setup.cfg"]
    return sorted(
        path
        for path in found
        if (path.suffix in TEXTS or path.name in ("Makefile", "setup.cfg"))
        and "vendor" not in path.parts
        and not any(
            part.startswith((".", "__")) or part.endswith(".egg-info") for part in path.parts
        )
        and path.name != THIS
    )


def sources(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines and names of everything that a module names itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and node.attr != "tell":  # of files
            yield node.lineno, node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            yield node.lineno, node.arg


def private(name: str) -> bool:
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
    refused = {*PRIVATE_WORDS} - (SENTENCES if name.startswith("test_") else set())
    return name.strip("_").lower() in PRIVATE_NAMES or bool(words & refused)


def private_names(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [f"{path}:{line} {name}" for line, name in sorted(set(names(tree))) if private(name)]


def private_prose(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        f"{path}:{number} {found[0]}"
        for number, line in enumerate(lines, 1)
        if (found := PRIVATE_PROSE.search(line))
    ]


@pytest.mark.parametrize("room", [*CODE, "tests", "benchmarks"])
def test_names_are_the_fields_words(room: str) -> None:
    found = [name for path in sources(room) if path.name != THIS for name in private_names(path)]
    assert not found, "\n".join(found)


def test_prose_is_plain() -> None:
    found = [place for path in texts() for place in private_prose(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "word", ["judge_all", "Chooser", "_arms", "by_chance", "look", "Seen", "UNDISTURBED", "way"]
)
def test_private_words_are_found(word: str) -> None:
    assert private(word)


@pytest.mark.parametrize(
    "word", ["classify_all", "outlook", "under_way", "alarm", "seed", "test_what_is_seen"]
)
def test_other_words_are_not(word: str) -> None:
    assert not private(word)


def test_docstrings_begin_plainly() -> None:
    found = []
    for path in sources(*CODE, "tests", "benchmarks"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                if text.startswith(BAD_BEGINNINGS):
                    found.append(f"{path}:{getattr(node, 'lineno', 1)} {text.splitlines()[0]}")
    assert not found, "\n".join(found)


def test_files_are_short() -> None:
    paths = sources(*CODE, "benchmarks", "tests")
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    assert {str(path): n for path, n in lengths.items() if n > LONGEST_FILE} == {}


def test_functions_are_short() -> None:
    """Signature and body; a docstring may be as long as it has something to say."""
    found = {}
    for path in sources(*CODE, "benchmarks", "tests"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0]
                lines = node.end_lineno - node.lineno + 1  # type: ignore[operator]
                if ast.get_docstring(node) is not None:
                    lines -= first.end_lineno - first.lineno + 1  # type: ignore[operator]
                if lines > LONGEST_FUNCTION:
                    found[f"{path}:{node.name}"] = lines
    assert found == {}


def test_no_class_name_stands_for_two_ideas() -> None:
    places = defaultdict(list)
    for path in sources(*CODE):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_comments_give_reasons_where_code_cannot() -> None:
    lines = comments = 0
    for path in sources(*CODE):
        text = path.read_text()
        lines += text.count("\n")
        comments += len(
            {
                token.start[0]
                for token in tokenize.generate_tokens(io.StringIO(text).readline)
                if token.type == tokenize.COMMENT
                and not re.search("noqa|type: ignore|fmt:", token.string)
            }
        )
    # Well-kept projects have 3 to 8 %.
    assert comments / lines >= 0.03, f"{comments} of {lines} lines have a comment"
