"""Damaged messages by the thousand, to the client and to the virtual Nanonis.

Run ``python benchmarks/malformed.py``. Ends with status 1 if any was accepted or not answered for.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.damage import attack_client, attack_server
from tests.support.virtual import virtual_nanonis


def main() -> int:
    """Attack and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000, help="each way; default: 10000")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcomes = attack_client(arguments.messages, arguments.seed)
    kinds = ", ".join(
        f"{count} {kind}" for kind, count in outcomes.items() if kind not in ("asked", "accepted")
    )
    print(f"client: {outcomes['asked']} damaged replies, {outcomes['accepted']} accepted ({kinds})")
    with virtual_nanonis(quiet=True) as (port, witness):
        changed = attack_server(port, witness, arguments.messages, arguments.seed)
    print(f"server: {arguments.messages} damaged requests, the setting was found changed {changed} "
          "times, and every connection ended")  # fmt: skip
    return int(outcomes["accepted"] + changed > 0 or outcomes["asked"] < arguments.messages)


if __name__ == "__main__":
    sys.exit(main())
