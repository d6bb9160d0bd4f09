"""Policies that never look at the image but count their steps: how good the best of them are.

Knowing how many actions have failed is knowing something of the state, so a sequence of actions
beats every fixed mixture. A plan says what is done in every step at every mask level. It is found
by sweeps: given how likely the states are in every step (forwards) and what remains to be done in
each (backwards), every step gets its best choice, until nothing improves. That is an optimum to
which no change of a single step can add anything; the best of several starts is taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_gym.envs.hidden_process import HiddenProcess
from spm_gym.instrument.sim.dynamics import STATES

HORIZON = 30
"""Steps with a choice of their own; one episode in a hundred is longer."""
_SWEEPS = 100
_RESTARTS = 10
"""Their results differ by a hundredth; with so many, the best is found again and again."""

Floats = NDArray[np.float64]


def counting_plan(process: HiddenProcess, sees_mask: bool) -> Floats:
    """The best found plan (HORIZON + 1, L, A): relative probabilities of the actions.

    Args:
        process: Whose masks are nested: what a level allows, all higher ones do.
        sees_mask: Whether it may choose by the mask. If not, every step has a ranking of the
            actions, and the first that is allowed is done; no mixture is better than a ranking.

    Returns:
        One row for each step; the last, a fixed mixture, for all that follow.
    """
    mixture = process.mask_only if sees_mask else process.blind
    tail = process.policy(mixture)
    rng = np.random.default_rng(0)
    shape = (HORIZON, *tail.shape) if sees_mask else (HORIZON, 1, tail.shape[1])
    starts = [np.broadcast_to(tail, (HORIZON, *tail.shape))]
    starts += [process.policy(rng.random(shape)) for _ in range(_RESTARTS)]
    plans = [_swept(process, start, tail, sees_mask) for start in starts]
    return min(plans, key=lambda plan: counting_length(process, plan))


def counting_length(process: HiddenProcess, plan: Floats) -> float:
    """Mean number of actions of a plan from `counting_plan`."""
    *likely, after = _likely(process, plan[:-1])
    return float(np.sum(likely) + after @ _remaining(process, plan[-1]))


def _likely(process: HiddenProcess, rows: Floats) -> Floats:
    """Probability (T + 1, 16) that an episode comes to a step in a state."""
    found = [process.start]
    for row in rows:
        found.append(found[-1] @ process.onward(row))
    return np.stack(found)


def _remaining(process: HiddenProcess, row: Floats) -> Floats:
    """Mean number of actions to go (16,) if a row is followed for ever."""
    return np.asarray(np.linalg.solve(np.eye(STATES) - process.onward(row), np.ones(STATES)))


def _swept(process: HiddenProcess, start: Floats, tail: Floats, sees_mask: bool) -> Floats:
    rows, shortest = start.copy(), np.inf
    best = np.concatenate([rows, tail[None]])
    steps = np.where(np.arange(STATES) == 0, 0, process.steps)
    for _ in range(_SWEEPS):
        plan = np.concatenate([rows, tail[None]])
        length = counting_length(process, plan)
        if length > shortest - 1e-9:
            break
        best, shortest = plan, length
        likely, remaining = _likely(process, rows), _remaining(process, tail)
        for step in reversed(range(HORIZON)):
            cost = (likely[step, :, None] * process.levels).T @ (1 + steps @ remaining).T
            choices = _choices(cost, process, sees_mask)
            rows[step] = np.eye(cost.shape[1])[choices]
            remaining = 1 + process.onward(rows[step]) @ remaining
    return best


def _choices(cost: Floats, process: HiddenProcess, sees_mask: bool) -> NDArray[np.intp]:
    """The cheapest action of every level, (L,), given what (L, A) cost."""
    if sees_mask:
        return np.asarray(np.where(process.allowed, cost, np.inf).argmin(axis=1))
    # A ranking does at each level what it did at the one below, or something newly allowed.
    order = np.argsort(process.allowed.sum(axis=1))
    known = np.zeros(cost.shape[1], dtype=bool)
    ways: dict[int, tuple[float, list[int]]] = {}
    for level in order:
        spent, chosen = min(ways.values(), default=(0.0, []))
        ways = {a: (so_far + cost[level, a], [*way, a]) for a, (so_far, way) in ways.items()}
        for action in np.flatnonzero(process.allowed[level] & ~known).tolist():
            ways[action] = (spent + cost[level, action], [*chosen, action])
        known = process.allowed[level]
    _, best = min(ways.values())
    choices = np.empty(len(order), dtype=np.intp)
    choices[order] = best
    return choices
