"""The best policies that ignore the image but count their steps.

The number of actions that have failed is information on the state, so a sequence of actions beats
every fixed mixture. A plan gives the action of every step at every mask level. It is found by
sweeps: given the probabilities of the states in every step (computed forwards) and the mean number
of actions that remain from each state (computed backwards), every step gets its best action, until
nothing improves. The result is a local optimum, which no change of a single step improves; the best
of several starts is taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_gym.envs.hidden_process import HiddenProcess
from spm_gym.instrument.sim.dynamics import STATES

HORIZON = 30
"""Steps with an action of their own; one episode in a hundred is longer."""
_SWEEPS = 100
_RESTARTS = 10
"""Their results differ by a hundredth; of so many, several find the best."""

Floats = NDArray[np.float64]


def counting_plan(process: HiddenProcess, sees_mask: bool) -> Floats:
    """Search the best plan: relative probabilities (HORIZON + 1, L, A) of the actions.

    Args:
        process: Its masks must be nested: a higher level allows all that a lower one allows.
        sees_mask: Whether the action may depend on the mask. If not, every step has a ranking of
            the actions, and the first allowed one is done; no mixture is better than a ranking.

    Returns:
        One row for each step; the last, a fixed mixture, for all that follow.
    """
    mixture = process.mask_only if sees_mask else process.blind
    tail = process.policy(mixture)
    rng = np.random.default_rng(0)
    shape = (HORIZON, *tail.shape) if sees_mask else (HORIZON, 1, tail.shape[1])
    # The best fixed mixture and random plans: a sweep never gets worse than its start.
    starts = [np.broadcast_to(tail, (HORIZON, *tail.shape))]
    starts += [process.policy(rng.random(shape)) for _ in range(_RESTARTS)]
    plans = [_swept(process, start, tail, sees_mask) for start in starts]
    return min(plans, key=lambda plan: counting_length(process, plan))


def counting_length(process: HiddenProcess, plan: Floats) -> float:
    """Compute the mean number of actions of a plan from `counting_plan`."""
    *reached, after = _reached(process, plan[:-1])
    return float(np.sum(reached) + after @ _remaining(process, plan[-1]))


def _reached(process: HiddenProcess, rows: Floats) -> Floats:
    """Probability (T + 1, 16) that an episode comes to a step, and is in a state there."""
    reached = [process.start]
    for row in rows:
        reached.append(reached[-1] @ process.onward(row))
    return np.stack(reached)


def _remaining(process: HiddenProcess, row: Floats) -> Floats:
    """Mean number of actions to go (16,) if a row is followed for ever."""
    # Sum of the geometric series of the steps that do not end the episode.
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
        reached, remaining = _reached(process, rows), _remaining(process, tail)
        # Backwards, so that each step knows the improved rest of the plan. The states before it are
        # those of the old plan; the next sweep corrects them.
        for step in reversed(range(HORIZON)):
            cost = (reached[step, :, None] * process.levels).T @ (1 + steps @ remaining).T
            choices = _choices(cost, process, sees_mask)
            rows[step] = np.eye(cost.shape[1])[choices]
            remaining = 1 + process.onward(rows[step]) @ remaining
    return best


def _choices(cost: Floats, process: HiddenProcess, sees_mask: bool) -> NDArray[np.intp]:
    """Choose the cheapest action of every level, (L,), given the costs (L, A)."""
    if sees_mask:
        return np.asarray(np.where(process.allowed, cost, np.inf).argmin(axis=1))
    # A ranking does at each level the same as at the level below, or something newly allowed.
    # Dynamic programming over the levels: the cheapest sequence for each action of the last level.
    order = np.argsort(process.allowed.sum(axis=1))
    known = np.zeros(cost.shape[1], dtype=bool)
    cheapest: dict[int, tuple[float, list[int]]] = {}
    for level in order:
        spent, chosen = min(cheapest.values(), default=(0.0, []))
        cheapest = {
            action: (so_far + cost[level, action], [*sequence, action])
            for action, (so_far, sequence) in cheapest.items()
        }
        for action in np.flatnonzero(process.allowed[level] & ~known).tolist():
            cheapest[action] = (spent + cost[level, action], [*chosen, action])
        known = process.allowed[level]
    _, best = min(cheapest.values())
    choices = np.empty(len(order), dtype=np.intp)
    choices[order] = best
    return choices
