"""Carry out the states of a run, and decide which follows (paper, *Operation*)."""

from __future__ import annotations

from collections.abc import Callable

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
    UnsafeToContinue,
)
from spm_gym.runner.areas import Areas
from spm_gym.runner.conditioning import Conditioning
from spm_gym.runner.context import RunnerContext
from spm_gym.runner.control import INTERRUPTING
from spm_gym.runner.ending import Ending
from spm_gym.runner.hand_over import HandOver
from spm_gym.runner.image_handlers import ImageHandlers
from spm_gym.runner.notify import NotificationKind
from spm_gym.runner.recovery import (
    CONNECTION,
    CRASH,
    LOST_CONTACT,
    REFUSED,
    WITHDRAWN,
    Recovery,
    Trouble,
)
from spm_gym.runner.states import ASKED_TO_PAUSE, State
from spm_gym.runner.z_window import ZWindow
from spm_gym.scale import NM

_POLL_S = 0.5
_PIECE_S = 1.0
_DISCONNECTED = (ConnectionLost, TimedOut, BadReply, OutcomeUnknown)


class StateHandlers:
    """Does what a state asks for; returns the state that follows."""

    def __init__(self, context: RunnerContext) -> None:
        self._context = context
        self._tip = context.run_state.tip
        self.config = context.config
        self.instrument = context.env.instrument
        self.ending = Ending(context)
        self.areas = Areas(context)
        self.recovery = Recovery(context, self.areas)
        self.conditioning = Conditioning(context)
        self.z_window = ZWindow(context)
        self.images = ImageHandlers(
            context, self.areas, self.recovery, self.conditioning, self.ending, self.z_window
        )
        self.hand_over = HandOver(context)
        self._handlers: dict[State, Callable[[], State]] = {
            State.APPROACH: self._approach,
            State.SETTLE: self._settle,
            State.CLEAN: self._clean,
            State.CHOOSE: self.images.choose,
            State.PARTIAL: self.images.partial,
            State.IMAGE: self.images.image,
            State.DIAGNOSE: self.images.diagnose,
            State.CLASSIFY: self.images.classify,
            State.COLLECT: self.images.collect,
            State.CONDITION: self._condition,
            State.HAND_OVER: self._hand_over,
            State.RECOVER: self._recover,
            State.CHANGE_AREA: self._change_area,
            State.PAUSE: self._pause,
        }

    def handle(self, state: State) -> State:
        """Carry out a state; troubles of the instrument lead to `State.RECOVER`, or to the end.

        Raises:
            Aborted: The run is asked for something else in the middle of a scan or an approach.
        """
        try:
            return self._handlers[state]()
        except Aborted:  # an error of the instrument as well, but asked for
            raise
        except Trouble as trouble:
            return self._begin_recovery(trouble.kind, str(trouble), trouble.at)
        # From the particular to the general: these two are nothing to recover from, and a tip that
        # somebody has withdrawn is a lost contact that is not simply approached again.
        except (LimitExceeded, UnsafeToContinue) as error:
            return self.fail(str(error))
        except TipWithdrawn as error:
            return self._respect_withdrawal(str(error))
        except ContactLost as error:
            return self._begin_recovery(LOST_CONTACT, str(error))
        except TipCrashed as error:
            return self._begin_recovery(CRASH, str(error))
        except _DISCONNECTED as error:
            return self._begin_recovery(CONNECTION, str(error))
        except InstrumentError as error:
            return self._begin_recovery(REFUSED, str(error))

    def begin_pause(self) -> State:
        """Pause at a request from outside."""
        why = self._context.hooks.why_paused()
        self._tip.in_contact = True  # for all that is known: a pause withdraws in any case
        self._context.add_event("pause", f"{why}: withdrawing")
        if why != ASKED_TO_PAUSE:
            self._context.hooks.notify(NotificationKind.PAUSE, why)
        return State.PAUSE

    def end_pause(self) -> State:
        """Go on at a request from outside."""
        self._context.add_event("pause", "goes on")
        return State.APPROACH

    def fail(self, reason: str) -> State:
        """Give up."""
        self.recovery.give_up()
        return self.ending.fail(reason)

    def forget_contact(self) -> None:
        """Take nothing for granted of where the tip is: nobody was at work meanwhile."""
        self._tip.in_contact = False

    def grant_new_attempts(self) -> None:
        """Go on after the end, which a person has asked for."""
        self.ending.clear()
        self.recovery.grant_new_attempts()
        self.images.grant_new_attempts()
        self.z_window.grant_new_attempts()

    def adopt_unknown_act(self, state: State, act: str, number: int) -> State:
        """Go on after the program was cut off in the middle of an act, which is not repeated.

        Args:
            state: In which it was.
            act: Its kind.
            number: Of the act.

        Returns:
            The state to go on with.
        """
        self._context.add_event(
            "unknown outcome", f"{act}: cut off in the middle of it; not repeated"
        )
        if act == "withdraw":
            return state  # on the shutdown, perhaps: what the state was to do had not started
        if state is State.CONDITION:
            self.conditioning.adopt_cut_off(number)
            return State.CHOOSE
        if state is State.CHANGE_AREA:
            self.areas.enter_next(certain=False, reason="killed during the move")
        # The piezos may creep, whatever the outcome.
        self._tip.settle_due |= state in (State.CHANGE_AREA, State.APPROACH)
        if state is State.CLEAN:
            self.areas.clean_later(None)
        if state is State.RECOVER:
            self.recovery.forget_retraction()
        if state is State.APPROACH:
            self.recovery.end_trouble()  # the instrument is asked whether it has approached
            self.z_window.forget()  # and the next image, where
        return State.APPROACH

    def _approach(self) -> State:
        # A crashed tip is taken away before any approach, also when a pause or a kill came in
        # between.
        if self.recovery.retract_due:
            return State.RECOVER
        if self._context.run_state.between_images and self.ending.is_due():
            return State.STOP
        # After a crash or a lost contact the feedback may still be on, with z at an end of its
        # range.
        if not self.recovery.out_of_contact and self.instrument.status().approached:
            self._tip.in_contact = True
            return self._resume_work()
        # Before the act: the piezos creep even if its reply never comes.
        self._tip.settle_due = True
        self.instrument.approach()
        self.z_window.forget()
        self.recovery.end_trouble()
        self._tip.in_contact = True
        self._context.add_event("approach", "approached")
        return self._resume_work()

    def _settle(self) -> State:
        left = self._context.env.config.creep_wait_s
        while left > 0:
            # In short pieces, for a request that comes meanwhile is not to wait for the end of it.
            if self._context.hooks.requests() in INTERRUPTING:
                raise Aborted("waiting for the piezos to settle")
            self.instrument.wait(min(left, _PIECE_S))
            left -= _PIECE_S
        self._tip.settle_due = False
        return self._resume_work()

    def _resume_work(self) -> State:
        """Return to what was interrupted."""
        place = self._context.run_state.place
        if self._tip.settle_due:
            return State.SETTLE
        if place.clean_at is not None:
            return State.CLEAN
        return State.PARTIAL if place.frame is not None else State.CHOOSE

    def _clean(self) -> State:
        x, y = self.areas.take_cleaning_place()
        actions = self._context.env.config.actions
        action = next(each for each in actions if each.name == self.config.clean_action)
        self._context.add_event("clean", f"{action.name} at {x / NM:.0f}, {y / NM:.0f} nm")
        self.areas.navigator.act(action, (x, y))
        return State.CHOOSE

    def _condition(self) -> State:
        # Before the act: none should be left without the image that shows what it did.
        if self.ending.is_due():
            return State.STOP
        if self._context.env.budget is not None:
            self._context.env.budget.check_actions()
        # The place of the action is one of the image before: after an approach it needs another.
        if self.z_window.adjustment_due():
            return State.RECOVER
        place = self.conditioning.act()
        if self.images.is_over_current(self.images.read_current()):
            raise Trouble(CRASH, "over-current after an action", place)
        return State.CHOOSE

    def _hand_over(self) -> State:
        self.hand_over.carry_out(*self.images.good_image())
        return State.CHOOSE

    def _recover(self) -> State:
        self.recovery.reconnect()
        if self.recovery.retract_due:
            # It may have been done even if it fails, so contact is not taken for granted.
            self._tip.in_contact = False
            self.recovery.retract()
            return State.APPROACH
        if self.recovery.out_of_contact:
            return State.APPROACH
        if self.z_window.due:
            # Kept until the approach is over: withdrawn twice, after a kill, does nothing more.
            self._tip.in_contact = False
            self.instrument.withdraw()
            return State.APPROACH
        self.recovery.end_trouble()
        if self.instrument.status().approached:
            self._tip.in_contact = True
            return self._resume_work()
        if self._tip.in_contact:
            raise TipWithdrawn("the tip was withdrawn while there was no connection")
        return State.APPROACH

    def _change_area(self) -> State:
        place = self._context.run_state.place
        # Before the move: a tip that is up after an error here was not withdrawn by somebody else.
        self._tip.in_contact, self._tip.settle_due = False, True
        try:
            self.instrument.move_area(area_direction(place.area))
        except OutcomeUnknown:
            self.areas.enter_next(certain=False, reason="outcome of the move unknown")
            raise
        self._tip.in_contact = True
        self.z_window.forget()
        self.areas.enter_next(certain=True, reason=place.leaving)
        # A sample that is rough everywhere would use up one area after the other.
        hopeless = self.recovery.note_area_change()
        return self.fail(hopeless) if hopeless else State.SETTLE

    def _pause(self) -> State:
        """Withdraw once, then wait."""
        if self._tip.in_contact:
            # Once only, whatever comes of it: a driver that cannot withdraw would be asked twice a
            # second.
            self._tip.in_contact = False
            try:
                self.instrument.withdraw()
            except CommandFailed as error:
                # What was refused would be refused again; a lost connection is recovered from.
                self._context.add_event("pause", f"not withdrawn: {error}")
        self._context.hooks.sleep(_POLL_S)
        return State.PAUSE

    def _respect_withdrawal(self, detail: str) -> State:
        """Leave a tip alone that somebody has withdrawn, unless the settings say otherwise."""
        if self.config.approach_withdrawn or not self._tip.in_contact:
            return self._begin_recovery(WITHDRAWN, detail)
        return self.fail(
            f"{detail} (not by this run, so it is left as it is; to approach again go on with "
            "--resume, or set operation.approach_withdrawn=true)"
        )

    def _begin_recovery(
        self, kind: str, detail: str, at: tuple[float, float] | None = None
    ) -> State:
        hopeless = self.recovery.note(kind, detail, at)
        if hopeless:
            return self.fail(hopeless)
        # The next image shows what the crash did; learned as the action's effect it would mislead.
        if kind == CRASH:
            self.conditioning.doubt_last_act()
        return State.RECOVER
