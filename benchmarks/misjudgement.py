"""Twelve mistakes of a user, with every command that acts, and how each of them ends.

Run ``python benchmarks/misjudgement.py``; ``--docs`` also writes the table into docs/safety.md. It
ends with status 1 if any cell does not end within its budget, in the safe condition, with a status
that is not 0 and a true sentence. Takes about ten minutes.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.misjudgements import ACCEPTED, COMMANDS, MISTAKES, MOST_ACTS, Cell, try_mistake

SAFETY = Path(__file__).parents[1] / "docs" / "safety.md"


def main() -> int:
    """Fill the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    every = {**MISTAKES, **ACCEPTED}
    parser.add_argument("--only", choices=every, metavar="MISTAKE", help="one row of the table")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/safety.md")
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else list(every)
    cells: dict[tuple[str, str], Cell] = {}
    for name, command in tqdm([(name, command) for name in names for command in COMMANDS]):
        with TemporaryDirectory() as folder:
            cells[name, command] = try_mistake(every[name], command, Path(folder))
    rows = [["mistake", *COMMANDS], ["---"] * (len(COMMANDS) + 1)]
    rows += [[name, *(cells[name, command].mark for command in COMMANDS)] for name in names]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    print(table)
    for name in names:
        print(f"{name}: {cells[name, 'run'].sentence}")
    wrong = sum(bool(cell.faults) for cell in cells.values())
    print(f"{len(cells)} cells, {wrong} not as promised; at most {MOST_ACTS} acts each")
    if arguments.docs:
        text = SAFETY.read_text(encoding="utf-8")
        marked = re.compile(r"(<!-- misjudgement: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
        SAFETY.write_text(marked.sub(rf"\g<1>\n{table}\n\n\g<2>", text), encoding="utf-8")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
