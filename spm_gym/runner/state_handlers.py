"""What is done in every state of a run, and what is decided from it (paper, *Operation*)."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from spm_gym.config import OperationConfig
from spm_gym.envs.observation import ProcessedScan, process_scan, unclassifiable
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.envs.regions import area_direction
from spm_gym.errors import (
    Aborted,
    BadReply,
    CommandFailed,
    ConnectionLost,
    ContactLost,
    InstrumentError,
    LimitExceeded,
    OutcomeUnknown,
    TimedOut,
    TipCrashed,
    TipWithdrawn,
    UnclassifiableImage,
    UnsafeToContinue,
)
from spm_gym.imaging import Diagnosis, diagnose
from spm_gym.journal.reader import Label
from spm_gym.journal.writer import Journal
from spm_gym.runner.areas import Areas
from spm_gym.runner.conditioning import Conditioning
from spm_gym.runner.notify import NotificationKind
from spm_gym.runner.policy import RunPolicy
from spm_gym.runner.recovery import (
    CONNECTION,
    CRASH,
    LOST_CONTACT,
    MISSING_LINES,
    OUT_OF_CONTACT,
    REFUSED,
    WITHDRAWN,
    Recovery,
)
from spm_gym.runner.run_state import RunState
from spm_gym.runner.states import State
from spm_gym.runner.watchdog import over_current
from spm_gym.types import Scan

NM = 1e-9
_POLL_S = 0.5
_VOUCHED_IMAGES, _VOUCHED_GOOD = 3, 2
"""So many of the first images of a good tip are to be called good: one may be unlucky."""
_NOT_CLASSIFIED = "not classified"
_DISCONNECTED = (ConnectionLost, TimedOut, BadReply, OutcomeUnknown)
_TROUBLES = {
    Diagnosis.LOST_CONTACT: LOST_CONTACT,
    Diagnosis.CRASH: CRASH,
    Diagnosis.PARTIAL: MISSING_LINES,
}

Notify = Callable[[NotificationKind, str], None]


class StateHandlers:
    """Does what a state asks for; returns the state that follows.

    Args:
        env: The environment over the microscope; conditioning is an episode of it.
        config: How to operate.
        journal: Is told of everything.
        policy: Who chooses the actions.
        memory: Where the run stands.
        rng: Breaks ties between regions.
        notify: Takes the kind of a notification and its text.
        sleep: Lets time pass while the run is paused.
    """

    def __init__(
        self,
        env: ProbeConditioningEnv,
        config: OperationConfig,
        journal: Journal,
        policy: RunPolicy,
        memory: RunState,
        rng: np.random.Generator,
        notify: Notify,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.env = env
        self.config = config
        self.journal = journal
        self.conditioning = Conditioning(env, config, journal, policy, memory)
        self.memory = memory
        self.rng = rng
        self.navigator = env.navigator
        self.navigator.on_mark = journal.add_mark
        self.recovery = Recovery(env.navigator, config, journal, memory)
        self.instrument = env.instrument
        self.areas = Areas(env.navigator, journal, memory, notify)
        self._sleep = sleep
        self._scan: Scan | None = None
        self._processed: ProcessedScan | None = None
        self._do: dict[State, Callable[[], State]] = {
            State.APPROACH: self._approach,
            State.SETTLE: self._settle,
            State.CLEAN: self._clean,
            State.CHOOSE: self._choose,
            State.PARTIAL: self._partial,
            State.IMAGE: self._image,
            State.DIAGNOSE: self._diagnose,
            State.CLASSIFY: self._classify,
            State.COLLECT: self._collect,
            State.CONDITION: self._condition,
            State.RECOVER: self._recover,
            State.CHANGE_AREA: self._change_area,
            State.PAUSE: self._pause,
        }

    def do(self, state: State) -> State:
        """Carry out a state; troubles of the instrument lead to `State.RECOVER`, or to the end.

        Raises:
            Aborted: The run is asked for something else in the middle of a scan or an approach.
        """
        try:
            return self._do[state]()
        except Aborted:
            raise
        except (LimitExceeded, UnsafeToContinue) as error:
            return self.fail(str(error))
        except TipWithdrawn as error:
            return self._withdrawn(str(error))
        except ContactLost as error:
            return self._trouble(LOST_CONTACT, str(error))
        except TipCrashed as error:
            return self._trouble(CRASH, str(error))
        except _DISCONNECTED as error:
            return self._trouble(CONNECTION, str(error))
        except InstrumentError as error:
            return self._trouble(REFUSED, str(error))

    def fail(self, reason: str) -> State:
        """Give up."""
        m = self.memory
        m.ending, m.failed = reason, True
        self.recovery.give_up()
        self._event("failure", reason)
        return State.STOP

    def adopt_unknown_act(self, act: str, number: int) -> None:
        """Go on after the program was cut off in the middle of an act, which is not repeated."""
        m = self.memory
        self._event("unknown outcome", f"{act}: cut off in the middle of it; not repeated")
        if act == "withdraw":
            return  # on the shutdown, perhaps: what the state was to do had not started
        if m.state is State.CONDITION:
            self.conditioning.adopt_cut_off(number)
            m.state = State.CHOOSE
            return
        if m.state is State.CHANGE_AREA:
            self.areas.enter_next(certain=False, reason="killed during the move")
        # The piezos may creep, whatever the outcome.
        m.settle_due |= m.state in (State.CHANGE_AREA, State.APPROACH)
        if m.state is State.CLEAN:
            m.clean_at = None
        if m.state is State.RECOVER:
            m.retract_due = False
        if m.state is State.APPROACH:
            m.trouble = ""  # whether it has approached is looked at, not taken for granted
        m.state = State.APPROACH

    def _approach(self) -> State:
        m = self.memory
        if m.retract_due:
            return State.RECOVER
        if m.step is None and self._is_over():
            return State.STOP
        if m.trouble not in OUT_OF_CONTACT and self.instrument.status().approached:
            m.in_contact = True
            return self._onward()
        m.settle_due = True
        self.instrument.approach()
        m.trouble, m.in_contact = "", True
        self._event("approach", "approached")
        return self._onward()

    def _settle(self) -> State:
        self.navigator.await_creep()
        self.memory.settle_due = False
        return self._onward()

    def _onward(self) -> State:
        """Back to what was interrupted."""
        if self.memory.settle_due:
            return State.SETTLE
        if self.memory.clean_at is not None:
            return State.CLEAN
        return State.PARTIAL if self.memory.frame is not None else State.CHOOSE

    def _clean(self) -> State:
        place, self.memory.clean_at = self.memory.clean_at, None
        assert place is not None
        action = next(a for a in self.env.config.actions if a.name == self.config.clean_action)
        self._event("clean", f"{action.name} at {place[0] / NM:.0f}, {place[1] / NM:.0f} nm")
        self.navigator.act(action, place)
        return State.CHOOSE

    def _choose(self) -> State:
        m = self.memory
        if m.step is None and self._is_over():
            return State.STOP
        if self.env.budget is not None:
            self.env.budget.check_episodes()
        if self.navigator.bad_sample >= self.config.max_bad_sample:
            m.leaving = "bad sample"
        if not m.leaving:
            m.spot_troubles = 0
            m.target = self.navigator.next_frame(self.rng)
            if m.frame is not None:
                return State.PARTIAL
            m.leaving = "used up"
        return State.CHANGE_AREA

    def _partial(self) -> State:
        frame = self.memory.target
        assert frame is not None
        scan = self.navigator.settle(frame)
        if scan is None:
            return State.IMAGE
        seen = diagnose(scan)
        trouble = seen in (Diagnosis.LOST_CONTACT, Diagnosis.CRASH)
        label = Label.UNUSABLE if trouble else Label.DISCARDED
        number = self._store(scan, self.env.config.settle_fraction, label)
        if trouble:
            self.journal.label_scan(number, label, seen)
            return self._seen(seen, "seen in the partial image")
        return State.IMAGE

    def _image(self) -> State:
        frame = self.memory.target
        assert frame is not None
        self._scan = self.navigator.image(frame)
        self.memory.scan = self._store(self._scan, 1.0, None)
        self.memory.images += 1
        self.memory.over_current = self._over_current()
        return State.DIAGNOSE

    def _diagnose(self) -> State:
        m, frame = self.memory, self.memory.target
        assert frame is not None
        scan = self._scan_in_hand()
        # Before the diagnosis: what another bias or scale makes look rough is no bad sample.
        if (error := unclassifiable(scan, self.env.classifier, self.env.config)) is not None:
            self._label(Label.UNUSABLE, _NOT_CLASSIFIED)
            raise error
        seen = diagnose(scan)
        if seen is Diagnosis.FINE and m.over_current:
            seen = Diagnosis.CRASH
        if seen is Diagnosis.FINE:
            self.recovery.succeed()
            m.frame, self.navigator.bad_sample = None, 0
            return State.CLASSIFY
        if seen is Diagnosis.ROUGH:
            self._label(Label.BAD_SAMPLE, seen)
            self.navigator.reject(frame)
            m.frame = None
            return State.CHOOSE
        self._label(Label.UNUSABLE, seen)
        return self._seen(seen, "seen in the image")

    def _classify(self) -> State:
        m = self.memory
        assert m.scan is not None
        processed = self._processed_in_hand()
        self.journal.record_probability(m.scan, processed.probability, processed.clean_side)
        if self.env.budget is not None:
            self.env.budget.see(self.env.is_good(processed.probability))
        if m.episode is None:
            return State.COLLECT
        self._label(Label.CONDITIONING)
        ending = self.conditioning.observe(processed)
        if not ending:
            return State.CONDITION
        m.bad_probe = 0
        if ending == "limit":
            # One more bad image in the new area is enough to go on.
            m.leaving, m.bad_probe = "time limit", self.config.condition_after - 1
        return State.CHOOSE

    def _collect(self) -> State:
        m = self.memory
        assert m.scan is not None
        processed = self._processed_in_hand()
        good = self.env.is_good(processed.probability)
        self._label(Label.GOOD if good else Label.BAD_PROBE)
        m.bad_probe = 0 if good else m.bad_probe + 1
        if m.vouched is not None and (doubt := self._doubt(good)):
            return self.fail(doubt)
        if good or m.vouched is not None:
            return State.CHOOSE
        if m.bad_probe < self.config.condition_after:
            return State.CHOOSE
        self.conditioning.begin(processed)
        return State.CONDITION

    def _doubt(self, good: bool) -> str:
        """Why the classifier cannot be trusted, if it calls a tip bad that a person calls good."""
        m = self.memory
        assert m.vouched is not None
        m.vouched.append(good)
        if len(m.vouched) < _VOUCHED_IMAGES:
            return ""
        seen, m.vouched = m.vouched, None
        if sum(seen) >= _VOUCHED_GOOD:
            return ""
        return (
            "the tip is good, says operation.require_good_start, and the classifier calls "
            f"{sum(seen)} of the first {len(seen)} images good: either it cannot classify this "
            "sample at this bias, setpoint and image size, or the tip is not good. No "
            "conditioning was started"
        )

    def _condition(self) -> State:
        if self._is_over():
            return State.STOP  # before the act: none should be left without a look at what it did
        if self.env.budget is not None:
            self.env.budget.check_actions()
        place = self.conditioning.act()
        if self._over_current():
            return self._trouble(CRASH, "over-current after an action", place)
        return State.CHOOSE

    def _recover(self) -> State:
        if self.recovery.start():
            return State.APPROACH
        if self.instrument.status().approached:
            self.memory.in_contact = True
            return self._onward()
        if self.memory.in_contact:
            raise TipWithdrawn("the tip was withdrawn while there was no connection")
        return State.APPROACH

    def _change_area(self) -> State:
        m = self.memory
        m.in_contact, m.settle_due = False, True
        try:
            self.instrument.move_area(area_direction(m.area))
        except OutcomeUnknown:
            self.areas.enter_next(certain=False, reason="outcome of the move unknown")
            raise
        m.in_contact = True
        self.areas.enter_next(certain=True, reason=m.leaving)
        # Nothing but area after area without a usable image is trouble as well.
        m.troubles += 1
        if m.troubles > self.config.max_recoveries:
            return self.fail(
                f"{m.troubles} troubles and changes of area without a usable image in between"
            )
        return State.SETTLE

    def _is_over(self) -> bool:
        """Whether the run has lasted as long as it is to."""
        m, hours, scans = self.memory, self.config.hours, self.config.scans
        if hours is not None and m.elapsed >= hours * 3600:
            m.ending = f"{hours:g} hours are over"
        elif scans is not None and m.images >= scans:
            m.ending = f"{scans} images are taken"
        return bool(m.ending)

    def _over_current(self) -> bool:
        limit = self.config.over_current_nA * 1e-9
        try:
            return over_current(self.instrument, limit, self.config.confirm_s)
        except InstrumentError as error:
            # The image is there and is to be classified; what is wrong the next command will meet.
            self._event("watchdog", f"the current could not be read: {error}")
            return False

    def _pause(self) -> State:
        """Withdraw once, then wait."""
        m = self.memory
        if m.in_contact:
            m.in_contact = False
            try:
                self.instrument.withdraw()
            except CommandFailed as error:
                self._event("pause", f"not withdrawn: {error}")
        self._sleep(_POLL_S)
        return State.PAUSE

    def _withdrawn(self, detail: str) -> State:
        """Somebody has withdrawn the tip: that is respected, unless the settings say otherwise."""
        if self.config.approach_withdrawn or not self.memory.in_contact:
            return self._trouble(WITHDRAWN, detail)
        return self.fail(
            f"{detail} (not by this run, so it is left as it is; to approach again go on with "
            "--resume, or set operation.approach_withdrawn=true)"
        )

    def _seen(self, seen: Diagnosis, where: str) -> State:
        """Trouble that an image shows; that of a tip being withdrawn looks like a crash."""
        out_of_contact = seen in (Diagnosis.LOST_CONTACT, Diagnosis.CRASH)
        if out_of_contact and not self.instrument.status().approached:
            return self._withdrawn(f"the tip was withdrawn: {where}")
        return self._trouble(_TROUBLES[seen], where)

    def _trouble(self, kind: str, detail: str, at: tuple[float, float] | None = None) -> State:
        hopeless = self.recovery.note(kind, detail, at)
        return self.fail(hopeless) if hopeless else State.RECOVER

    def _store(self, scan: Scan, fraction: float, label: Label | None) -> int:
        m = self.memory
        self._processed = None
        number = self.journal.add_scan(
            scan,
            fraction=fraction,
            area=m.area,
            elapsed=m.elapsed,
            label=label,
            episode=m.episode,
        )
        m.counters["scans"] += 1
        if label is not None:
            m.counters[label] += 1
        return number

    def _label(self, label: Label, reason: str = "") -> None:
        assert self.memory.scan is not None
        self.journal.label_scan(self.memory.scan, label, reason)
        self.memory.counters[label] += 1

    def _scan_in_hand(self) -> Scan:
        if self._scan is None:
            assert self.memory.scan is not None
            self._scan = self.journal.scan(self.memory.scan)
        return self._scan

    def _processed_in_hand(self) -> ProcessedScan:
        if self._processed is None:
            try:
                self._processed = process_scan(
                    self._scan_in_hand(), self.env.classifier, self.env.config
                )
            except UnclassifiableImage:
                self._label(Label.UNUSABLE, _NOT_CLASSIFIED)
                raise
        return self._processed

    def _event(self, kind: str, text: str) -> None:
        self.journal.add_event(self.memory.now, kind, text)
