"""No module of the project reads files in a way by which they could run code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

UNPICKLING = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal",
              "jsonpickle"}  # fmt: skip
RUNS_CODE = {
    "torch.load", "joblib.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
    "pandas.read_pickle", "eval", "exec", "DoubleDQN.load", "DQN.load",
    "load_from_pkl", "load_from_zip_file", "model.load_replay_buffer", "torch.jit.load",
    "torch.hub.load",
}  # fmt: skip
SOURCES = [*(ROOT / "spm_gym").rglob("*.py"), *(ROOT / "agents").rglob("*.py"),
           *ROOT.glob("*.py")]  # fmt: skip


def suspects(tree: ast.AST) -> list[str]:
    """Imports, calls and arguments by which reading a file may run code."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names if each.name.split(".")[0] in UNPICKLING]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found += [module] if module.split(".")[0] in UNPICKLING else []
            found += [each.name for each in node.names if each.name in RUNS_CODE]
            found += [f"{module}.{each.name}" for each in node.names
                      if f"{module}.{each.name}" in RUNS_CODE]  # fmt: skip
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            found += [called] if called in RUNS_CODE else []
            found += [
                called
                for each in node.keywords
                if each.arg == "allow_pickle"
                and not (isinstance(each.value, ast.Constant) and each.value.value is False)
            ]
    return found  # fmt: skip


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_reads_what_may_be_code(path: Path) -> None:
    assert suspects(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import torch\ntorch.load('x')",
        "from torch import load", "from joblib import load",
        "np.lib.format.read_array(f, allow_pickle=True)", "f(allow_pickle=yes)", "eval('1')",
        "DoubleDQN.load(path)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert suspects(ast.parse(source))
