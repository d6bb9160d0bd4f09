"""Every fault in every phase of a conditioning step, and how the instrument is left.

Run ``python benchmarks/faults.py``; ``--docs`` also writes the table into docs/safety.md. It ends
with status 1 if any cell is not in the safe condition, or an act was carried out twice.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.fault_matrix import FAULTS, PHASES, break_step, possible

SAFETY = Path(__file__).parents[1] / "docs" / "safety.md"


def main() -> int:
    """Fill the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lines", type=int, help="of previews; by default there are none")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/safety.md")
    arguments = parser.parse_args()
    cells = [(phase, fault) for phase in PHASES for fault in FAULTS if possible(fault, phase)]
    found = {
        (phase, fault): break_step(fault, phase, arguments.seed, arguments.lines)
        for phase, fault in tqdm(cells)
    }
    rows = [["phase", *FAULTS], ["---"] * (len(FAULTS) + 1)]
    for phase in PHASES:
        marks = [found[phase, fault].mark if possible(fault, phase) else "–" for fault in FAULTS]
        rows.append([phase, *marks])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    print(table)
    safe = sum(not cell.unsafe for cell in found.values())
    once = sum(cell.acts <= 1 for cell in found.values())
    print(f"{len(found)} cells: {safe} in the safe condition, {once} without a repeated act")
    if arguments.docs:
        text = SAFETY.read_text(encoding="utf-8")
        marked = re.compile(r"(<!-- faults: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
        SAFETY.write_text(marked.sub(rf"\g<1>\n{table}\n\n\g<2>", text), encoding="utf-8")
    return int(safe < len(found) or once < len(found))


if __name__ == "__main__":
    sys.exit(main())
