"""The last decision: what the agent believed and expected, what it chose, and its result."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from spm_gym.analysis.forecasts import read_forecast, step_seconds
from spm_gym.analysis.policies import RANDOM
from spm_gym.analysis.session import RunSession
from spm_gym.config import ActionConfig
from spm_gym.instrument.sim.dynamics import CLASS_NAMES
from spm_gym.types import Forecast

_MOST_STEPS = 100
_CLASSES, _WORTH_NAMING = 4, 0.03
"""Most classes of probes that are named, and the least probability of one."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the actions.

    Attributes:
        name: As in the settings.
        value: Expected return, by the double DQN; NaN of a policy without values.
        good: Probability of a good probe after it, by the belief agent; NaN of another policy.
        actions_to_go: Expected until a good probe, by the belief agent; NaN of another policy.
        seconds_to_go: The same in the time that a step of this run takes; NaN where unknown.
        bar: The value, or else the probability, from 0 for the lowest to 100 for the highest.
        allowed: Whether it might be chosen.
        why_not: Why not, if that is known.
        chosen: Whether it was.
    """

    name: str
    value: float
    good: float
    actions_to_go: float
    seconds_to_go: float
    bar: float
    allowed: bool
    why_not: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Done:
    """A step of an episode: the action, and the probability of a good probe before and after."""

    name: str
    before: float | None
    after: float | None
    flaw: str


@dataclass(frozen=True, slots=True)
class LastDecision:
    """A decision.

    Attributes:
        episode: Its number.
        number: Of the decision in it.
        outcome: Of the episode: good, limit; None while it is under way.
        scan: The scan that it rests on.
        belief: Most probable classes of probes with their probabilities, of a belief agent.
        choices: All actions, the best first.
        policy: Name of the policy that has decided.
        chosen: Name of the action.
        explanation: Why this one, in a sentence.
        result: Its effect, in a sentence.
        reward: None until the next image is classified.
        steps: Of the episode so far.
    """

    episode: int
    number: int
    outcome: str | None
    scan: int
    belief: list[tuple[str, float]]
    choices: list[Choice]
    policy: str
    chosen: str
    explanation: str
    result: str
    reward: float | None
    steps: list[Done]


def last_decision(
    db: sqlite3.Connection, session: RunSession, policy: str | None = None
) -> LastDecision | None:
    """Read the last decision, or the last one of a policy; None before the first."""
    step = db.execute(
        "SELECT * FROM steps WHERE policy = COALESCE(?, policy) ORDER BY id DESC LIMIT 1", (policy,)
    ).fetchone()
    if step is None:
        return None
    episode = db.execute("SELECT * FROM episodes WHERE id = ?", (step["episode"],)).fetchone()
    steps = _steps(db, step["episode"])
    forecast = read_forecast(step["forecast"])
    choices = _choices(db, step, session, forecast)
    return LastDecision(
        episode=step["episode"],
        number=step["number"],
        outcome=episode["outcome"],
        scan=step["scan"],
        belief=[] if forecast is None else _most_probable(forecast),
        choices=choices,
        policy=step["policy"],
        chosen=step["name"],
        explanation=_explanation(step, choices),
        result=_result(step, steps[-1]),
        reward=step["reward"],
        steps=steps,
    )


def _choices(
    db: sqlite3.Connection, step: sqlite3.Row, session: RunSession, forecast: Forecast | None
) -> list[Choice]:
    mask, values = json.loads(step["mask"]), json.loads(step["q"])
    actions = () if session.settings is None else session.settings.env.actions
    clean = db.execute("SELECT clean_side FROM scans WHERE id = ?", (step["scan"],)).fetchone()
    side = None if clean is None else clean["clean_side"]
    nothing = [math.nan] * len(mask)
    # Each policy has one of the two, and random choice has neither.
    values = nothing if values is None else values
    good, to_go = (
        (nothing, nothing) if forecast is None else (forecast.good, forecast.actions_to_go)
    )
    each = step_seconds(db)
    bars = _bars(values if forecast is None else good)
    found = [
        Choice(
            name=_name(number, step, actions),
            value=values[number],
            good=good[number],
            actions_to_go=to_go[number],
            seconds_to_go=math.nan if each is None else to_go[number] * each,
            bar=bars[number],
            allowed=allowed,
            why_not="" if allowed else _why_not(number, actions, side),
            chosen=number == step["action"],
        )
        for number, allowed in enumerate(mask[: min(len(values), len(good), len(to_go))])
    ]
    # Without values all compare equal, and the order stays that of the settings.
    return sorted(found, key=_rank)


def _bars(values: Sequence[float]) -> list[float]:
    low, high = min(values, default=0.0), max(values, default=0.0)
    low -= 0.1 * (high - low)  # or the lowest would have no bar
    return [100 * (value - low) / (high - low) if high > low else 0.0 for value in values]


def _rank(choice: Choice) -> float:
    if not math.isnan(choice.value):
        return -choice.value
    return -math.inf if math.isnan(choice.actions_to_go) else choice.actions_to_go


def _most_probable(forecast: Forecast) -> list[tuple[str, float]]:
    named = sorted(zip(CLASS_NAMES, forecast.belief, strict=False), key=lambda each: -each[1])
    return [(name, share) for name, share in named[:_CLASSES] if share >= _WORTH_NAMING]


def _name(number: int, step: sqlite3.Row, actions: tuple[ActionConfig, ...]) -> str:
    # The decision has its own name with it; the settings may have been edited since.
    if number == step["action"]:
        return str(step["name"])
    return actions[number].name if number < len(actions) else f"action {number + 1}"


def _why_not(number: int, actions: tuple[ActionConfig, ...], side: float | None) -> str:
    if number >= len(actions) or side is None:
        return "not allowed"
    return f"needs {actions[number].clean_nm:g} nm clean, there were {side * 1e9:.1f} nm"


def _explanation(step: sqlite3.Row, choices: list[Choice]) -> str:
    allowed = [choice for choice in choices if choice.allowed]
    # Noted with the decision, since an agent's choice may look like a random one.
    if step["policy"] == RANDOM:
        return f"Drawn at random from the {len(allowed)} allowed actions."
    best = next(iter(allowed), None)
    if best is None or best.chosen:
        return "The agent expects most of it among the allowed actions."
    if step["refused"]:
        return "It was not allowed."
    if not math.isnan(best.actions_to_go):
        return f"Chosen to explore; with what is known so far, {best.name} is the shortest way."
    return f"Drawn to explore; the agent expects more of {best.name}."


def _result(step: sqlite3.Row, done: Done) -> str:
    if done.flaw:
        return done.flaw
    if done.after is None:
        return "What it did is not known yet: the next image will show it."
    good = " The probe is good." if step["terminated"] else ""
    before = "unknown" if done.before is None else f"{done.before:.3f}"
    return f"Probability of a good probe {before} → {done.after:.3f}.{good}"


def _steps(db: sqlite3.Connection, episode: int) -> list[Done]:
    # The last ones: an episode without a limit of steps would fill the page.
    rows = db.execute(_STEPS, (episode, _MOST_STEPS)).fetchall()
    return [Done(row["name"], row["before"], row["after"], _flaw(row)) for row in reversed(rows)]


def _flaw(row: sqlite3.Row) -> str:
    if row["refused"]:
        return "Refused: it was not carried out."
    return "It may not have been carried out." if row["uncertain"] else ""


_STEPS = """
SELECT steps.name, refused, uncertain,
       COALESCE(earlier.probability, earlier.preview_probability) AS before,
       COALESCE(later.probability, later.preview_probability) AS after
FROM steps LEFT JOIN scans AS earlier ON earlier.id = steps.scan
LEFT JOIN scans AS later ON later.id = steps.scan_after
WHERE steps.episode = ? ORDER BY steps.number DESC LIMIT ?
"""
