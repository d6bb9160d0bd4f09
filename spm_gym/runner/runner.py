"""The autonomous runner: one transition after another, each of them in the journal."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from spm_gym.config import OperationConfig
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import Aborted, InstrumentError
from spm_gym.instrument.contract import Restartable
from spm_gym.journal.reader import SAFE_END, UNSAFE_END, JournalError
from spm_gym.journal.writer import Journal
from spm_gym.plain_state import StateError, restore_generator
from spm_gym.runner.control import Request
from spm_gym.runner.notify import NotificationKind, summary_due
from spm_gym.runner.policy import RunPolicy
from spm_gym.runner.run_state import RunState
from spm_gym.runner.signals import ignoring_signals, is_interrupt
from spm_gym.runner.state_handlers import Notify, StateHandlers
from spm_gym.runner.states import (
    ASKED_TO_STOP,
    INTERRUPTED,
    State,
    check_transition,
    touches_instrument,
)
from spm_gym.scale import duration_text


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        ending: Why, in words.
        failed: Whether it had to give up.
        where: Where the tip is, in words.
        trouble: Why it is not where it is to be: withdrawn, unless it may stay.
        interrupted: Whether it ended in the middle of a transition, by Ctrl-C or the like.
    """

    ending: str
    failed: bool
    where: str
    trouble: str = ""
    interrupted: bool = False

    @property
    def safe(self) -> bool:
        """Whether the tip is where it is to be."""
        return not self.trouble


class Runner:
    """Operates the microscope by itself; see `spm_gym.runner.states` for what it does when.

    A transition is committed to the journal as a whole, with the state of the runner and of a
    simulated microscope. A run that was killed goes on from the last one: an act under way is
    called unknown and not repeated, a scan under way is taken again. On a simulated microscope
    everything else goes on bit for bit.

    Args:
        env: The environment over the microscope.
        config: How to operate.
        journal: Of the run; empty, or of the run that is to go on.
        policy: Who chooses the actions.
        clock: The instrument's clock, s; must answer when the connection is lost, too, and go on
            evenly: the hours of the run are counted on it.
        simulated: The microscope, if it exists in software only: its state is kept as well.
        seed: Of the choice between equally good regions.
        notify: Takes the kind of a notification and its text.
        requests: What the run is asked for from outside.
        pace: Is told how many seconds every transition took on the instrument's clock.
        watch: Is told after every transition.
        may_stay: Whether the tip may stay at the surface at the end, unless the run has failed or
            somebody has asked for the end.
        can_withdraw: Whether the instrument can withdraw the tip at all.
        sleep: Lets time pass while the run is paused.
    """

    def __init__(
        self,
        env: ProbeConditioningEnv,
        config: OperationConfig,
        journal: Journal,
        policy: RunPolicy,
        clock: Callable[[], float],
        simulated: Restartable | None = None,
        seed: int = 0,
        notify: Notify = lambda kind, text: None,
        requests: Callable[[], Request | None] = lambda: None,
        pace: Callable[[float], None] = lambda seconds: None,
        watch: Callable[[Runner], None] = lambda runner: None,
        may_stay: bool = False,
        can_withdraw: bool = True,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.env = env
        self.config = config
        self.journal = journal
        self.policy = policy
        self._simulated = simulated
        self._clock = clock
        self._notify = notify
        self._requests = requests
        self._pace = pace
        self._watch = watch
        self._may_stay = may_stay
        self._can_withdraw = can_withdraw
        self._asked_to_stop = False
        self._rng = np.random.default_rng(seed)
        kept = journal.load_state()
        try:
            self.memory = RunState() if kept is None else RunState.from_json(kept[0])
            self.operator = StateHandlers(
                env, config, journal, policy, self.memory, self._rng, notify, sleep
            )
            if kept is None:
                self.memory.now = clock()
                self.memory.vouched = [] if config.require_good_start else None
                self.operator.areas.begin()
                self._commit()
            else:
                self._resume(kept[1])
        except StateError as error:
            raise JournalError(f"the run cannot go on from {journal.run}: {error}") from error

    @property
    def state(self) -> State:
        """What is done next."""
        return self.memory.state

    def step(self) -> State:
        """Make one transition and commit it.

        Returns:
            The new state.

        Raises:
            IllegalTransition: A fault of this program.
        """
        before = self.state
        following = self._asked_for() or self._do(before)
        check_transition(before, following)
        passed = self._advance_clock()
        self.memory.state = following
        if not before is following is State.PAUSE or self.journal.has_news:
            self._commit()
        if self.memory.unsaved >= self.config.checkpoint_every:
            self._save()
        self._watch(self)
        self._pace(passed)
        return following

    def run(self) -> Outcome:
        """Operate until the end; returns or raises only after the tip was withdrawn, or tried to.

        Raises:
            Exception: Whatever this program failed to expect, or the journal cannot take.
        """
        m = self.memory
        try:
            while self.state is not State.STOP:
                self.step()
        except BaseException as error:
            if is_interrupt(error):
                return self._cut_short(INTERRUPTED, failed=False)
            self._cut_short(f"{type(error).__name__}: {error}", failed=True)
            raise
        with ignoring_signals():
            outcome = self._end(m.ending, m.failed)
            self._note_end(outcome)
            self._commit()
            if m.unsaved:
                self._save()
        return outcome

    def _cut_short(self, ending: str, failed: bool) -> Outcome:
        """End in the middle of a transition, which is forgotten but for the acts in it."""
        with ignoring_signals():
            outcome = self._end(ending, failed)
            # The disk may be full; whoever had to know it knows it by now.
            with suppress(sqlite3.Error):
                self._note_end(outcome)
                self.journal.keep()
        return outcome

    def _do(self, state: State) -> State:
        """Carry out a state, but for a scan that is stopped because somebody asks for something."""
        while True:
            with suppress(Aborted):
                return self.operator.do(state)
            if (asked_for := self._asked_for()) is not None:
                return asked_for

    def _asked_for(self) -> State | None:
        """Where a request from outside leads, if it leads elsewhere."""
        state = self.state
        if not touches_instrument(state):
            return None
        request = self._requests()
        if request is Request.STOP:
            self._asked_to_stop = True
            self.memory.ending = ASKED_TO_STOP
            return State.STOP
        if request is Request.PAUSE:
            # Recovery first: it may be about to take a crashed tip away.
            if state in (State.PAUSE, State.RECOVER):
                return None
            self.memory.in_contact = True  # for all that is known: a pause withdraws in any case
            self.journal.add_event(self.memory.now, "pause", "asked to pause: withdrawing")
            return State.PAUSE
        if state is State.PAUSE and request is Request.RESUME:  # no request is none to go on
            self.journal.add_event(self.memory.now, "pause", "goes on")
            return State.APPROACH
        return None

    def _advance_clock(self) -> float:
        m, now = self.memory, self._clock()
        passed = max(0.0, now - m.now)
        if m.state is not State.PAUSE:
            m.elapsed += passed
        m.now = now
        if summary_due(m.elapsed, m.summarised):
            m.summarised = m.elapsed
            self._notify(NotificationKind.DAILY_SUMMARY, self.summary())
        return passed

    def summary(self) -> str:
        """The run so far, in a sentence."""
        m = self.memory
        good, bad = m.counters["good"], m.counters["bad probe"]
        share = f", {good / (good + bad):.0%} of the classified ones good" if good + bad else ""
        return (
            f"{duration_text(m.elapsed)}: {m.images} images{share}; {m.counters['episodes']} "
            f"conditionings with {m.counters['actions']} actions, {m.counters['recoveries']} "
            f"troubles, {m.counters['areas']} approach areas"
        )

    def _end(self, ending: str, failed: bool) -> Outcome:
        """Withdraw, and tell why."""
        interrupted = self.state is not State.STOP
        if interrupted:
            with suppress(sqlite3.Error):
                self.journal.rollback()
        may_stay = self._may_stay and not self._asked_to_stop
        stays = not failed and (may_stay or not self._can_withdraw)
        trouble = "" if stays else self._withdraw()
        where = "tip left at the surface" if stays else "tip withdrawn"
        where = f"TIP NOT WITHDRAWN: {trouble}" if trouble else where
        outcome = Outcome(ending, failed, where, trouble, interrupted)
        text = f"{ending}; {where}. {self.summary()}"
        self._notify(NotificationKind.RECOVERY_FAILED if failed else NotificationKind.STOP, text)
        return outcome

    def _note_end(self, outcome: Outcome) -> None:
        kind = SAFE_END if outcome.safe else UNSAFE_END
        self.journal.add_event(self.memory.now, kind, f"{outcome.ending}; {outcome.where}")

    def _withdraw(self) -> str:
        instrument = self.env.instrument
        for _ in range(2):
            try:
                instrument.withdraw()
                return ""
            except Exception as error:  # even the journal's: the tip may be withdrawn all the same
                trouble = str(error)
            # An interrupt in the middle of a command has cost the connection.
            with suppress(Exception):
                instrument.reconnect()
            with suppress(InstrumentError):
                if not instrument.status().approached:
                    return ""
        return trouble

    def _commit(self) -> None:
        m, navigator = self.memory, self.env.navigator
        m.last_region, m.bad_sample = navigator.last_region, navigator.bad_sample
        m.rng = dict(self._rng.bit_generator.state)
        m.budget = {} if self.env.budget is None else self.env.budget.get_state()
        m.policy = self.policy.get_state()
        kept = None if self._simulated is None else self._simulated.get_state()
        self.journal.commit(m.to_json(), kept)

    def _save(self) -> None:
        self.policy.save(self.memory.learned)
        self.memory.unsaved = 0

    def _resume(self, instrument_state: Any) -> None:
        m, navigator = self.memory, self.env.navigator
        self.journal.remove_orphan()
        restore_generator(self._rng, m.rng)
        self.policy.set_state(m.policy)
        navigator.enter_area(m.area)
        navigator.regions.restore(self.journal.marks(m.area))
        navigator.last_region, navigator.bad_sample = m.last_region, m.bad_sample
        if m.state is State.STOP:  # whoever goes on after the end grants new attempts
            m.ending, m.failed, m.troubles = "", False, 0
        elif self.env.budget is not None:
            self.env.budget.set_state(m.budget)
        if self._simulated is not None:
            self._simulated.set_state(instrument_state)
        else:
            m.now, m.in_contact = self._clock(), False
        lived_on = self._simulated is None
        unknown = self.journal.give_up_unfinished()
        if unknown is not None:
            self.operator.adopt_unknown_act(unknown["act"], unknown["number"])
        if m.state in (State.STOP, State.PAUSE) or (lived_on and touches_instrument(m.state)):
            m.state, m.in_contact = State.APPROACH, False
        self._commit()
