"""The belief agent: filters the class of the probe, learns the transitions, plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agents.belief.belief import VerdictRates, correct, likelihood, update
from agents.belief.errors import BeliefError
from agents.belief.planning import MaskFrequencies, Plan
from agents.belief.recogniser import Recogniser
from agents.belief.transitions import LearnedTransitions, possible, uninformed_prior
from spm_gym.action_index import action_index
from spm_gym.actions_to_go import GOOD
from spm_gym.config import BeliefConfig
from spm_gym.plain_state import StateError, array_of, restore_generator, restored
from spm_gym.types import BoolArray, Forecast, Transition

Floats = NDArray[np.float64]

_ToGo = Annotated[Floats, array_of(np.float64, None, None)]


class BeliefState(NamedTuple):
    """Memory of `BeliefAgent.predict` from one image of an episode to the next: the episode so far.

    Attributes:
        likelihoods: Of its images given each class, (n, S).
        actions: Chosen on each of them, (n,).
    """

    likelihoods: Annotated[Floats, array_of(np.float64, None, None)]
    actions: Annotated[NDArray[np.int64], array_of(np.int64, None)]


class _View(NamedTuple):
    """Thoughts of the agent at an image.

    Attributes:
        belief: Over the classes, (S,).
        table: Of transitions that it expects, (A, S, S).
        plan: On that table.
    """

    belief: Floats
    table: Floats
    plan: Plan


@dataclass(frozen=True, slots=True)
class _AgentState:
    """State of a `BeliefAgent` without that of its parts."""

    steps: Annotated[int, Field(ge=0)]
    informed: bool
    open: bool
    skipping: bool
    plan: _ToGo
    drawn: _ToGo | None
    rng: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Exploration:
    """State of exploration."""

    rng: dict[str, Any]
    drawn: list[list[float]] | None


class BeliefAgent:
    """Chooses and learns on one microscope; fulfils `spm_gym.types.Policy`.

    Args:
        recogniser: Gives the probability of each of S classes.
        rates: Of the classifier that ends the episodes.
        actions: Names of the A actions.
        rng: Of exploration.
        prior: Dirichlet weights (A, S, S) of what is known of the actions; None if nothing is.
        config: How it explores and learns.

    Attributes:
        actions: Names of the actions.
        transitions: All that was learned of the actions.
        masks: How often each mask has occurred.
        steps: Number of actions learned from.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        rates: VerdictRates,
        actions: Sequence[str],
        rng: np.random.Generator,
        prior: Floats | None = None,
        config: BeliefConfig | None = None,
    ) -> None:
        self.config = config or BeliefConfig()
        self.recogniser, self.rates, self.actions = recogniser, rates, tuple(actions)
        classes = len(recogniser.shares)
        self._informed = prior is not None
        if prior is None:
            prior = uninformed_prior(len(self.actions), classes)
        self._rng = rng
        self._verdicts = [rates.probabilities(good, classes) for good in (False, True)]
        self.transitions = LearnedTransitions(prior)
        self.masks = MaskFrequencies(len(self.actions))
        self.steps = 0
        # An uncertain act breaks an episode: of the rest nothing is stored.
        self._open = self._skipping = False
        self._drawn: Plan | None = None
        self._latest: tuple[NDArray[np.float32], Floats] | None = None
        self._mean = self.transitions.mean()
        self._plan = Plan.of(self._mean, self.masks)

    @property
    def pixels(self) -> int:
        """Side of the images it takes."""
        return self.recogniser.network.pixels

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: BoolArray | None = None,
    ) -> tuple[Any, Any]:
        """Choose an action on an image (1, H, W); see `spm_gym.types.Policy`.

        Args:
            observation: An image that the classifier has called bad.
            state: `BeliefState`; None begins an episode.
            episode_start: Ignored.
            deterministic: Whether to follow the plan on the mean table, without exploring.
            action_masks: (A,); None allows everything.

        Raises:
            BeliefError: The image has other pixels or no answer that is a number, or nothing is
                allowed.
        """
        mask = np.ones(len(self.actions), bool) if action_masks is None else action_masks
        found = self._likelihood(observation, called_good=False)[None]
        done = np.empty(0, np.int64) if state is None else state.actions
        likelihoods = found if state is None else np.concatenate([state.likelihoods, found])
        view = self._view(likelihoods, done, adapted=deterministic)
        choose = view.plan.choose if deterministic else self._explore
        action = choose(view.belief, mask)
        return action, BeliefState(likelihoods, np.append(done, action))

    def check_memory(self, memory: BeliefState) -> None:
        """Refuse a memory that this agent cannot have given.

        Raises:
            StateError: It has not the likelihoods of all classes, or has no such actions.
        """
        likelihoods, actions = memory
        images, classes = len(actions), len(self.recogniser.shares)
        known = images and ((actions >= 0) & (actions < len(self.actions))).all()
        if not (known and likelihoods.shape == (images, classes) and possible(likelihoods)):
            raise StateError(
                f"a kept episode has likelihoods of {classes} classes for every image, and one of "
                f"{len(self.actions)} actions after it, not {likelihoods.tolist()} and "
                f"{actions.tolist()}"
            )

    def forecast(self, state: BeliefState, deterministic: bool = False) -> Forecast:
        """Say what was believed when the last action was chosen, and where each one might lead.

        Args:
            state: Given by `predict`.
            deterministic: As it was for `predict`.
        """
        view = self._view(state.likelihoods, state.actions[:-1], adapted=deterministic)
        return Forecast(
            belief=tuple(view.belief.tolist()),
            good=tuple((view.belief @ view.table)[:, GOOD].tolist()),
            actions_to_go=tuple(view.plan.expected(view.belief).tolist()),
        )

    def learn_from(self, transition: Transition) -> None:
        """Learn from one step; the episodes come one after the other."""
        ended = transition.terminated or transition.truncated
        self._skipping = self._skipping or transition.uncertain
        if not self._skipping:
            # Checked before anything is stored, or a wrong one would leave half a step behind.
            action = action_index(transition.action, len(self.actions))
            if not self._open:
                self.transitions.begin(self._likelihood(transition.observation, False))
            after = self._likelihood(transition.next_observation, transition.terminated)
            self.transitions.add(action, after)
            self._open = True
        if not ended:
            self.masks.add(transition.next_mask)
        self.steps += 1
        if self.steps % self.config.learn_every == 0:
            self.transitions.learn(self.config.rounds)
            self._mean = self.transitions.mean()
            self._plan = Plan.of(self._mean, self.masks)
        if ended:
            self.end_episode()

    def end_episode(self) -> None:
        """Let the next transition begin an episode, also if the present one was broken off."""
        self._open = self._skipping = False
        self._drawn = None

    @property
    def exploration_state(self) -> dict[str, Any]:
        """State of the generator, and the plan drawn for this episode, as JSON has them."""
        drawn = None if self._drawn is None else self._drawn.to_go.tolist()
        return {"rng": dict(self._rng.bit_generator.state), "drawn": drawn}

    @exploration_state.setter
    def exploration_state(self, state: dict[str, Any]) -> None:
        kept = restored(_Exploration, state)
        drawn = None if kept.drawn is None else np.array(kept.drawn, np.float64)
        if drawn is not None and drawn.shape != self._plan.to_go.shape:
            raise StateError(f"a kept plan has the shape {drawn.shape}")
        restore_generator(self._rng, kept.rng)
        self._drawn = None if drawn is None else Plan(drawn)

    def get_state(self) -> dict[str, Any]:
        """Collect all that is needed to continue."""
        drawn = None if self._drawn is None else self._drawn.to_go.copy()
        return {
            "transitions": self.transitions.get_state(),
            "masks": self.masks.get_state(),
            "steps": self.steps,
            "informed": self._informed,
            "open": self._open,
            "skipping": self._skipping,
            "drawn": drawn,
            "rng": dict(self._rng.bit_generator.state),
            "plan": self._plan.to_go.copy(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave.

        Raises:
            StateError: It belongs to another agent, or is damaged; then this one must not be used.
        """
        rest = dict(state)
        try:
            transitions, masks = rest.pop("transitions"), rest.pop("masks")
        except KeyError as error:
            raise StateError(f"the kept state of a belief agent lacks {error}") from None
        own = restored(_AgentState, rest)
        shape = self._plan.to_go.shape
        for plan in (own.plan, own.drawn):
            if plan is not None and plan.shape != shape:
                raise StateError(f"a kept plan has the shape {plan.shape}, not {shape}")
        self.transitions.set_state(transitions)
        self.masks.set_state(masks)
        restore_generator(self._rng, own.rng)
        self.steps, self._informed = own.steps, own.informed
        self._open, self._skipping = own.open, own.skipping
        self._drawn = None if own.drawn is None else Plan(own.drawn.copy())
        self._mean, self._plan = self.transitions.mean(), Plan(own.plan.copy())

    def _view(self, likelihoods: Floats, done: NDArray[np.int64], adapted: bool) -> _View:
        """Follow an episode to its last image.

        Args:
            likelihoods: Of the images, (n + 1, S).
            done: Actions between them, (n,).
            adapted: Whether the table includes what this episode has shown. An agent that is asked
                without learning would otherwise repeat for ever what does not help on this tip;
                one that explores learns from the episode soon enough.
        """
        weights = self.transitions.weights
        belief = correct(self.transitions.start(), likelihoods[0])
        for action, found in zip(done.tolist(), likelihoods[1:], strict=True):
            row = weights[action]
            step = row / row.sum(axis=1, keepdims=True) if adapted else self._mean[action]
            belief, expected = update(belief, step, found)
            if adapted:
                weights[action] += expected
        if not (adapted and len(done)):
            return _View(belief, self._mean, self._plan)
        table = weights / weights.sum(axis=2, keepdims=True)
        return _View(belief, table, Plan.of(table, self.masks))

    def _explore(self, belief: Floats, mask: BoolArray) -> int:
        if not mask.any():
            raise BeliefError("the action mask allows no action at all")
        if not self._informed and self.steps < self.config.greedy_until:
            share = 1.0 if self.steps < self.config.random_actions else self.config.random_share
            if self._rng.random() < share:
                return int(self._rng.choice(np.flatnonzero(mask)))
            return self._plan.choose(belief, mask)
        # One table for a whole episode: what a chain of actions is worth shows only at its end.
        if self._drawn is None:
            self._drawn = Plan.of(self.transitions.draw(self._rng), self.masks)
        return self._drawn.choose(belief, mask)

    def _likelihood(self, observation: NDArray[np.float32], called_good: bool) -> Floats:
        # Every image is asked about twice, to choose and to learn: the last answer is kept.
        if self._latest is None or not np.array_equal(self._latest[0], observation):
            answer = self.recogniser.logarithms(observation[None])[0]
            self._latest = observation.copy(), answer
        verdict = self._verdicts[called_good]
        return likelihood(self._latest[1], self.recogniser.shares, verdict)
