"""The autonomous runner: one transition after another, each of them in the journal."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from spm_gym.config import OperationConfig
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import Aborted, InstrumentError
from spm_gym.instrument.contract import Restartable
from spm_gym.instrument.z_window import Window
from spm_gym.journal.reader import SAFE_END, UNSAFE_END, JournalError
from spm_gym.journal.writer import Journal
from spm_gym.plain_state import StateError, restore_generator
from spm_gym.runner.areas import UsedArea
from spm_gym.runner.context import RunnerContext, RunnerHooks
from spm_gym.runner.control import Request
from spm_gym.runner.notify import NotificationKind, summary_due
from spm_gym.runner.policy import RunPolicy
from spm_gym.runner.run_state import RunState
from spm_gym.runner.shutdown import where_left, withdraw
from spm_gym.runner.signals import ignoring_signals, is_interrupt
from spm_gym.runner.state_handlers import StateHandlers
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
        good: Whether it ended because the probe is good, and is left at the surface.
    """

    ending: str
    failed: bool
    where: str
    trouble: str = ""
    interrupted: bool = False
    good: bool = False

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
        policy: Chooses the actions.
        hooks: To the world around.
        simulated: The microscope, if it exists in software only: its state is kept as well.
        seed: Of the choice between equally good regions.
        may_stay: Whether the tip may stay at the surface at the end, unless the run has failed or
            somebody has asked for the end.
        can_withdraw: Whether the instrument can withdraw the tip at all.
        used_area: Where an earlier run on the same sample has ended; None begins a fresh map.
        z_window: As in `RunnerContext`.
    """

    def __init__(
        self,
        env: ProbeConditioningEnv,
        config: OperationConfig,
        journal: Journal,
        policy: RunPolicy,
        hooks: RunnerHooks,
        simulated: Restartable | None = None,
        seed: int = 0,
        may_stay: bool = False,
        can_withdraw: bool = True,
        used_area: UsedArea | None = None,
        z_window: Window | None = None,
    ) -> None:
        self.env = env
        self.config = config
        self.journal = journal
        self.policy = policy
        self._hooks = hooks
        self._simulated = simulated
        self._may_stay = may_stay
        self._can_withdraw = can_withdraw
        self._asked_to_stop = False
        self._rng = np.random.default_rng(seed)
        kept = journal.load_state()
        try:
            self.run_state = RunState() if kept is None else RunState.from_json(kept[0])
            self.handlers = StateHandlers(
                RunnerContext(
                    env, config, journal, policy, hooks, self._rng, self.run_state, z_window
                )
            )
            if kept is None:
                self._start(used_area)
            else:
                self._resume(kept[1])
        except StateError as error:
            raise JournalError(f"the run cannot go on from {journal.run}: {error}") from error

    @property
    def state(self) -> State:
        """The next state to be carried out."""
        return self.run_state.state

    def step(self) -> State:
        """Make one transition and commit it.

        Returns:
            The new state.

        Raises:
            IllegalTransition: A fault of this program.
        """
        before = self.state
        # Requests come first: they are obeyed before the next command, not after it.
        following = self._asked_for() or self._do(before)
        check_transition(before, following)
        passed = self._advance_clock()
        self.run_state.state = following
        # A pause asks twice a second, perhaps for days: without news it writes nothing.
        if not before is following is State.PAUSE or self.journal.has_news:
            self._commit()
        # After the commit: what a checkpoint lacks is learned again from the journal, but one that
        # is ahead of the journal would have learned the same step twice.
        if self.handlers.conditioning.checkpoint_due:
            self.handlers.conditioning.save()
        self._hooks.watch(self.run_state)
        self._hooks.pace(passed)
        return following

    def run(self) -> Outcome:
        """Operate until the end; returns or raises only after the tip was withdrawn, or tried to.

        Raises:
            Exception: Whatever this program failed to expect, or the journal cannot take.
        """
        try:
            while self.state is not State.STOP:
                self.step()
        except BaseException as error:
            if is_interrupt(error):
                return self._cut_short(INTERRUPTED, failed=False)
            self._cut_short(f"{type(error).__name__}: {error}", failed=True)
            raise
        with ignoring_signals():
            ending = self.run_state.ending
            # The tip first: whatever comes after it may fail.
            outcome = self._end(ending.reason, ending.failed)
            self._note_end(outcome)
            self._commit()
            self.handlers.conditioning.save()
        return outcome

    def _cut_short(self, ending: str, failed: bool) -> Outcome:
        """End in the middle of a transition, which is forgotten but for the acts in it."""
        with ignoring_signals():
            outcome = self._end(ending, failed)
            # The disk may be full; the notification has gone out all the same.
            with suppress(sqlite3.Error):
                self._note_end(outcome)
                self.journal.keep()
        return outcome

    def _do(self, state: State) -> State:
        """Carry out a state, but for a scan that is stopped because somebody asks for something."""
        while True:
            with suppress(Aborted):
                return self.handlers.handle(state)
            if (asked_for := self._asked_for()) is not None:
                return asked_for

    def _asked_for(self) -> State | None:
        """Return the state that a request from outside leads to, if that is another one."""
        state = self.state
        if not touches_instrument(state):
            return None
        request = self._hooks.requests()
        if request is Request.STOP and (failure := self._hooks.failure()):
            return self.handlers.fail(failure)
        if request is Request.STOP:
            self._asked_to_stop = True
            return self.handlers.ending.stop(ASKED_TO_STOP)
        if request is Request.PAUSE:
            # Recovery first: it may be about to take a crashed tip away.
            if state in (State.PAUSE, State.RECOVER):
                return None
            return self.handlers.begin_pause()
        if state is State.PAUSE and request is Request.RESUME:  # no request is none to go on
            return self.handlers.end_pause()
        return None

    def _advance_clock(self) -> float:
        clock, now = self.run_state.clock, self._hooks.clock()
        # A clock that is put back must not give a run more time.
        passed = max(0.0, now - clock.now)
        # The hours that were asked for are hours of work.
        if self.state is not State.PAUSE:
            clock.elapsed += passed
        clock.now = now
        if summary_due(clock.elapsed, clock.summarised):
            clock.summarised = clock.elapsed
            self._hooks.notify(NotificationKind.DAILY_SUMMARY, self.summary())
        return passed

    def summary(self) -> str:
        """Sum up the run so far in a sentence."""
        counters = self.run_state.counters
        if not self.config.conditioning:
            return (
                f"{duration_text(self.run_state.clock.elapsed)}: a survey of "
                f"{self.run_state.imaging.images} images, nothing conditioned; "
                f"{counters['recoveries']} troubles, {counters['areas']} approach areas"
            )
        good, bad = counters["good"], counters["bad probe"]
        share = f", {good / (good + bad):.0%} of the classified ones good" if good + bad else ""
        unknown = f", {counters['unknown']} unknown" if counters["unknown"] else ""
        return (
            f"{duration_text(self.run_state.clock.elapsed)}: {self.run_state.imaging.images} "
            f"images{share}{unknown}; {counters['episodes']} conditionings with "
            f"{counters['actions']} actions, {counters['recoveries']} troubles, "
            f"{counters['areas']} approach areas"
        )

    def _end(self, ending: str, failed: bool) -> Outcome:
        """Withdraw, and notify why."""
        interrupted = self.state is not State.STOP
        if interrupted:
            # Half a transition does not fit the state that it began with. Acts in it are kept:
            # their intents are committed already.
            with suppress(sqlite3.Error):
                self.journal.rollback()
        good = self.run_state.ending.good and not interrupted
        if good and not self._is_at_surface():
            good, failed = False, True
            ending = f"{ending}, but the tip is not at the surface any more"
            self.handlers.ending.fail(ending)
        # Somebody who asks from outside may not see the instrument: then the tip is withdrawn in
        # any case.
        may_stay = good or (self._may_stay and not self._asked_to_stop)
        stays = not failed and (may_stay or not self._can_withdraw)
        trouble = "" if stays else withdraw(self.env.instrument)
        outcome = Outcome(ending, failed, where_left(stays, trouble), trouble, interrupted, good)
        text = f"{ending}; {outcome.where}. {self.summary()}"
        kind = NotificationKind.RECOVERY_FAILED if failed else NotificationKind.STOP
        self._hooks.notify(kind, text)
        return outcome

    def _note_end(self, outcome: Outcome) -> None:
        kind = SAFE_END if outcome.safe else UNSAFE_END
        self.journal.add_event(self.run_state.clock.now, kind, f"{outcome.ending}; {outcome.where}")

    def _is_at_surface(self) -> bool:
        # Read back: the operator relies on it. A driver that cannot tell says what it
        # was told last.
        try:
            return self.env.instrument.status().approached
        except InstrumentError:
            return False

    def _commit(self) -> None:
        kept = self.run_state.kept
        # With the rows of the transition, or a run that goes on would draw other regions.
        self.handlers.areas.keep_map()
        kept.rng = dict(self._rng.bit_generator.state)
        kept.policy = self.policy.get_state()
        kept.budget = {} if self.env.budget is None else self.env.budget.get_state()
        instrument = None if self._simulated is None else self._simulated.get_state()
        self.journal.commit(self.run_state.to_json(), instrument)

    def _start(self, used_area: UsedArea | None) -> None:
        self.run_state.clock.now = self._hooks.clock()
        if self.config.require_good_start:
            self.handlers.images.expect_good_start()
        if used_area is None:
            self.handlers.areas.begin()
        else:
            self.handlers.areas.continue_from(used_area)
        self._commit()

    def _resume(self, instrument_state: Any) -> None:
        run_state, handlers = self.run_state, self.handlers
        # Before anything is scanned: the next scan takes the number of the orphan.
        self.journal.remove_orphan()
        restore_generator(self._rng, run_state.kept.rng)
        self.policy.set_state(run_state.kept.policy)
        handlers.areas.restore_map()
        if run_state.state is State.STOP:
            handlers.grant_new_attempts()
        # Somebody who goes on after the end has looked at the instrument: budgets begin again.
        # After a kill they are kept, or a loop of kills would have no bound.
        elif self.env.budget is not None:
            self.env.budget.set_state(run_state.kept.budget)
        if self._simulated is not None:
            self._simulated.set_state(instrument_state)
        else:
            run_state.clock.now = self._hooks.clock()
            handlers.forget_contact()
        unknown = self.journal.give_up_unfinished()
        if unknown is not None:
            run_state.state = handlers.adopt_unknown_act(
                run_state.state, unknown["act"], unknown["number"]
            )
        # A real microscope has changed meanwhile: whatever was to be done there begins with the
        # question whether the tip is at the surface.
        lived_on = self._simulated is None and touches_instrument(run_state.state)
        if lived_on or run_state.state in (State.STOP, State.PAUSE):
            run_state.state = State.APPROACH
            handlers.forget_contact()
        self._commit()
