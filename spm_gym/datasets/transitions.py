"""Export of a learned table of transitions, for other programs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spm_gym.atomic_file import written_whole

_COLUMNS = ("action", "class_before", "class_after", "prior", "learned", "observations")

Table = NDArray[np.float64]


def write_transitions(
    path: Path,
    prior: Table,
    learned: Table,
    observed: Table,
    actions: Sequence[str],
    classes: Sequence[str],
) -> None:
    """Write a row for every action and pair of classes; whole or not at all.

    Args:
        path: The file, CSV.
        prior: Mean table before learning, (A, S, S).
        learned: Mean table after it, (A, S, S).
        observed: Expected number of times that each action was done on each class, (A, S).
        actions: Names of the actions.
        classes: Names of the classes.
    """
    # The module csv writes its own line ends; translated ones would stand doubled on Windows.
    with written_whole(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for (action, before, after), probability in np.ndenumerate(learned):
            writer.writerow(
                [
                    actions[action], classes[before], classes[after],
                    repr(float(prior[action, before, after])), repr(float(probability)),
                    repr(float(observed[action, before])),
                ]
            )  # fmt: skip
