"""The autonomous runner: one transition after another, each of them in the journal."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spm_gym.config import OperationConfig
from spm_gym.env import ProbeConditioningEnv
from spm_gym.instrument.base import InstrumentError, Restartable
from spm_gym.runner.chooser import Chooser
from spm_gym.runner.control import Request
from spm_gym.runner.journal import Journal
from spm_gym.runner.memory import Memory
from spm_gym.runner.notify import summary_due
from spm_gym.runner.operator import Notify, Operator
from spm_gym.runner.states import State, check_transition, touches_instrument

_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        ending: Why, in words.
        failed: Whether it had to give up.
        safe: Whether the tip is withdrawn.
        trouble: Why it is not.
    """

    ending: str
    failed: bool
    safe: bool
    trouble: str = ""


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
        chooser: Who chooses the actions.
        simulated: The microscope, if it exists in software only: its state is kept as well.
        seed: Of the choice between equally good regions.
        clock: The instrument's clock, s; must answer when the connection is lost, too.
        notify: Takes the kind of a notification and its text.
        requests: What the run is asked for from outside.
        pace: Is told how many seconds every transition took on the instrument's clock.
        watch: Is told after every transition.
    """

    def __init__(
        self,
        env: ProbeConditioningEnv,
        config: OperationConfig,
        journal: Journal,
        chooser: Chooser,
        simulated: Restartable | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
        notify: Notify = lambda kind, text: None,
        requests: Callable[[], Request | None] = lambda: None,
        pace: Callable[[float], None] = lambda seconds: None,
        watch: Callable[[Runner], None] = lambda runner: None,
    ) -> None:
        self.env = env
        self.config = config
        self.journal = journal
        self.chooser = chooser
        self._simulated = simulated
        self._clock = clock
        self._notify = notify
        self._requests = requests
        self._pace = pace
        self._watch = watch
        self._rng = np.random.default_rng(seed)
        kept = journal.load_state()
        self.memory = Memory() if kept is None else Memory.from_json(kept[0])
        self.operator = Operator(env, config, journal, chooser, self.memory, self._rng, notify)
        if kept is None:
            self.memory.now = clock()
            self.operator.begin()
            self._commit()
        else:
            self._resume(kept[1])

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
        following = self._asked_for() or self._work(before)
        check_transition(before, following)
        self.memory.state = following
        passed = self._advance_clock()
        self._commit()
        if self.memory.unsaved >= self.config.checkpoint_every:
            self._save()
        self._watch(self)
        self._pace(passed)
        return following

    def run(self) -> Outcome:
        """Operate until the end; returns or raises only after the tip was withdrawn, or tried to.

        Raises:
            Exception: Whatever this program failed to expect.
        """
        m = self.memory
        try:
            while self.state is not State.STOP:
                self.step()
        except KeyboardInterrupt:
            self.journal.rollback()
            outcome = self._end("interrupted", failed=False)
            self.journal.keep()
        except BaseException as error:
            self.journal.rollback()
            self._end(f"{type(error).__name__}: {error}", failed=True)
            self.journal.keep()
            raise
        else:
            outcome = self._end(m.ending, m.failed)
            self._commit()
        if m.unsaved and outcome.ending != "interrupted":
            self._save()
        return outcome

    def _work(self, state: State) -> State:
        if state is State.PAUSE:
            return self._stay_paused()
        return self.operator.do(state)

    def _asked_for(self) -> State | None:
        """Where a request from outside leads, if there is one."""
        if self.state is State.PAUSE or not touches_instrument(self.state):
            return None
        request = self._requests()
        if request is Request.STOP:
            self.memory.ending = "asked to stop"
            return State.STOP
        if request is Request.PAUSE:
            self.journal.add_event(self.memory.now, "pause", "asked to pause: withdrawing")
            return State.PAUSE
        return None

    def _stay_paused(self) -> State:
        request = self._requests()
        if request is Request.STOP:
            self.memory.ending = "asked to stop"
            return State.STOP
        if request is not Request.PAUSE:
            self.journal.add_event(self.memory.now, "pause", "goes on")
            return State.APPROACH
        if self.env.instrument.status().approached:
            self.memory.in_contact = False
            self.env.instrument.withdraw()
        time.sleep(_LOOK_EVERY_S)
        return State.PAUSE

    def _advance_clock(self) -> float:
        m, now = self.memory, self._clock()
        passed = max(0.0, now - m.now)
        m.elapsed += passed
        m.now = now
        if summary_due(m.elapsed, m.summarised):
            m.summarised = m.elapsed
            self._notify("daily summary", self.summary())
        return passed

    def summary(self) -> str:
        """The run so far, in a sentence."""
        m = self.memory
        good, bad = m.counters["good"], m.counters["bad probe"]
        share = f", {good / (good + bad):.0%} of the judged ones good" if good + bad else ""
        return (
            f"{m.elapsed / 3600:.1f} hours: {m.images} images{share}; {m.counters['episodes']} "
            f"conditionings with {m.counters['actions']} actions, {m.counters['recoveries']} "
            f"troubles, {m.counters['areas']} approach areas"
        )

    def _end(self, ending: str, failed: bool) -> Outcome:
        """Withdraw, and tell why."""
        m = self.memory
        trouble = self._withdraw()
        outcome = Outcome(ending, failed, not trouble, trouble)
        safe = "tip withdrawn" if outcome.safe else f"TIP NOT WITHDRAWN: {trouble}"
        text = f"{ending}; {safe}. {self.summary()}"
        self.journal.add_event(m.now, "end", text)
        self._notify("recovery failed" if failed else "stop", text)
        return outcome

    def _withdraw(self) -> str:
        instrument = self.env.instrument
        for _ in range(2):
            try:
                instrument.withdraw()
                return ""
            except InstrumentError as error:
                trouble = str(error)
            try:
                instrument.reconnect()
            except InstrumentError as error:
                trouble = str(error)
        return trouble

    def _commit(self) -> None:
        m, survey = self.memory, self.env.survey
        m.last_region, m.bad_sample = survey.last_region, survey.bad_sample
        m.rng = dict(self._rng.bit_generator.state)
        m.chooser = self.chooser.get_state()
        kept = None if self._simulated is None else self._simulated.get_state()
        self.journal.commit(m.to_json(), kept)

    def _save(self) -> None:
        self.chooser.save(self.memory.learned)
        self.memory.unsaved = 0

    def _resume(self, instrument_state: Any) -> None:
        m, survey = self.memory, self.env.survey
        self.journal.remove_orphan()
        self._rng.bit_generator.state = m.rng
        self.chooser.set_state(m.chooser)
        survey.enter_area(m.area)
        survey.regions.restore(self.journal.marks(m.area))
        survey.last_region, survey.bad_sample = m.last_region, m.bad_sample
        if m.state is State.STOP:  # whoever goes on after the end grants new attempts
            m.ending, m.failed, m.troubles = "", False, 0
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
