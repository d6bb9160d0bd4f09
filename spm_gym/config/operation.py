"""Settings of autonomous operation, and of the faults that are put in its way on purpose."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, model_validator

from spm_gym.config.sections import Count, Fraction, NonNegative, Positive, Section, Text


class BudgetConfig(Section):
    """Bounds of trying without success; beyond them a run ends and a person has to look.

    They hold at every microscope that can be harmed, in training and evaluation too, and in every
    run of ``spm-gym run``. None sets no bound.

    Attributes:
        unproven_actions: Actions before the classifier has called any image of the run good: until
            then nothing shows that it can classify this sample.
        fruitless_actions: Actions without a good image after that.
        failed_in_a_row: Conditionings that fail one after the other; the last one ends the run.
        failed_per_night: Conditionings that fail within any 12 hours.
        failed_damage: Resets in a row whose damaging actions have not made the tip bad in the eyes
            of the classifier: one that calls every tip good would have it damaged for ever.
    """

    unproven_actions: Count | None = 40
    fruitless_actions: Count | None = 150
    failed_in_a_row: Count | None = 2
    failed_per_night: Count | None = 3
    failed_damage: Count | None = 1


_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"


class InterlockConfig(Section):
    """Limits of a signal of the controller, beyond which a run pauses or ends.

    Attributes:
        signal: Its name, as the controller has it, with the unit.
        min: Smallest value, in that unit; None sets no bound.
        max: Largest value; None sets no bound.
        rate_s: The limits are for the change per second, over so long, and not for the value; None
            for the value.
        then: "pause" withdraws and waits, "stop" ends the run like a failure.
        resume_after_s: Time within the limits after which a pause ends by itself; None waits for a
            person (`spm-gym ask resume`).
    """

    signal: Text
    min: float | None = None
    max: float | None = None
    rate_s: Positive | None = None
    then: Literal["pause", "stop"] = "pause"
    resume_after_s: NonNegative | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> InterlockConfig:
        if self.min is None and self.max is None:
            raise ValueError(f"the interlock on {self.signal!r} needs min, max, or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(
                f"the interlock on {self.signal!r} has min = {self.min:g} above max = {self.max:g}"
            )
        if self.then == "stop" and self.resume_after_s is not None:
            raise ValueError(
                f"the interlock on {self.signal!r} ends the run, which resume_after_s does not undo"
            )
        return self


class OperationConfig(Section):
    """How the microscope is operated without anybody watching (paper, *Operation*).

    Attributes:
        hours: Time on the instrument's clock after which the run ends; None sets no bound.
        scans: Images after which it ends, partial ones not counted; None sets no bound.
        conditioning: Whether the probe may be conditioned. Without, a run is a survey: images only,
            which nothing classifies and which need neither classifier nor agent; the guard refuses
            every pulse and dip, also that after a crash.
        when_good: What follows a good image outside conditioning: "scan", the next image; "stop",
            the end, with the tip left at the surface and the operator's settings in force; or
            anything else, the command line of a program that the tip is handed to, with the
            operator's settings in force, until it ends.
        program_s: Longest time of such a program; after that it is terminated, which ends the run.
        hand_overs: Programs after which the run ends; None sets no bound.
        policy: What chooses the actions: the agent, random choice, or both in turn, episode by
            episode.
        agent: Run directory or checkpoint of a trained agent; None for the one in the package.
        learn: Whether the agent goes on learning.
        checkpoint_every: Actions that it learns from between two checkpoints.
        condition_after: Images of a bad probe in a row that start conditioning.
        unknown_after: Unknown images in a row, unlike all that the classifier was trained with,
            that end the run: nothing is done on them, and only a person can tell how the tip is.
        require_good_start: Whether the operator vouches for the tip at the start: unless the
            classifier calls two of the first three images good, it cannot classify this sample, and
            the run ends before anything is done to the tip.
        max_recoveries: So many troubles and changes of area without a usable image in between are
            borne; one more ends the run.
        spot_attempts: Troubles at one place after which it is blocked.
        spot_nm: Radius that is blocked then, and where the tip has crashed.
        max_bad_sample: Images of bad sample in a row after which the approach area is changed.
        clean_action: Name of the action done after a crash, at the place of the crash; None for
            none.
        approach_withdrawn: Whether a tip that somebody else, or the controller's Safe Tip, has
            withdrawn is approached again; otherwise that ends the run.
        over_current_nA: Current that means a crash if it is still there `confirm_s` later; pulses
            and dips are over by then.
        confirm_s: Pause before an over-current is believed.
        retry_s: Pause after the first failure to reconnect; it doubles with every further one.
        interlocks: Signals of the controller, with limits, that pause or end a run.
        quiet_hours: Times of the day, such as "22:00-06:30", in which a run pauses: the tip is
            withdrawn.
        time_zone: Of the quiet hours, such as "Europe/Berlin"; None for the computer's.
        notify: File of addresses for notifications (a configuration of apprise); it may hold
            passwords and is never copied. None for none.
        notify_every_s: Notifications of one kind come at most so often.
    """

    hours: Positive | None = None
    scans: Count | None = None
    conditioning: bool = True
    # The paper's runs go on scanning: their images are the measurement.
    when_good: str = "scan"
    # A map of spectra takes hours, but a script that hangs should not cost the whole night.
    program_s: Positive = 3600.0
    hand_overs: Count | None = None
    policy: Literal["agent", "random", "interleaved"] = "agent"
    agent: Path | None = None
    learn: bool = True
    checkpoint_every: Count = 100
    # Ten in the paper (*Operation*), eleven in the released code.
    condition_after: Count = 10
    unknown_after: Count = 5
    require_good_start: bool = False
    max_recoveries: Count = 5
    spot_attempts: Count = 2
    spot_nm: Positive = 25.0
    # The released code tries 250 times and then takes the bad sample for good.
    max_bad_sample: Count = 30
    clean_action: str | None = "pulse +4.0 V"
    approach_withdrawn: bool = False
    # Both from the released code: above 5 nA twice, 2.5 s apart.
    over_current_nA: Positive = 5.0
    confirm_s: NonNegative = 2.5
    retry_s: NonNegative = 10.0
    # None by default: which signals tell of trouble depends on how a lab has wired its controller.
    interlocks: tuple[InterlockConfig, ...] = ()
    quiet_hours: tuple[Annotated[str, Field(pattern=f"^{_CLOCK}-{_CLOCK}$")], ...] = ()
    time_zone: str | None = None
    notify: Path | None = None
    notify_every_s: NonNegative = 600.0

    @model_validator(mode="after")
    def _survey_needs_no_good_start(self) -> OperationConfig:
        # The operator's word would be compared with nothing, and the check seem to have passed.
        if self.require_good_start and not self.conditioning:
            raise ValueError(
                "require_good_start compares the operator's word with a classifier, and a survey "
                "(conditioning = false) has none: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _when_good_is_possible(self) -> OperationConfig:
        if self.when_good != "scan" and not self.conditioning:
            raise ValueError(
                "when_good acts on what a classifier says, and a survey (conditioning = false) "
                "has none: leave it out"
            )
        if self.hand_overs is not None and self.program is None:
            raise ValueError("hand_overs counts programs: when_good has to name one")
        try:
            words = shlex.split(self.when_good)
        except ValueError as error:
            raise ValueError(f"when_good = {self.when_good!r} is no command: {error}") from error
        if not words:
            raise ValueError("when_good is empty: it is scan, stop, or the command of a program")
        return self

    @model_validator(mode="after")
    def _times_exist(self) -> OperationConfig:
        if self.time_zone is not None:
            try:
                ZoneInfo(self.time_zone)
            except (ZoneInfoNotFoundError, ValueError, OSError) as error:
                raise ValueError(
                    f"time_zone = {self.time_zone!r} is none that this computer knows; they look "
                    "like Europe/Berlin"
                ) from error
        for hours in self.quiet_hours:
            if hours[:5] == hours[6:]:
                raise ValueError(f"quiet_hours has {hours!r}, which begins when it ends")
        return self

    @property
    def program(self) -> list[str] | None:
        """Words of the program that a good tip is handed to; None if it is handed to none."""
        return None if self.when_good in ("scan", "stop") else shlex.split(self.when_good)


class ScheduledFault(Section):
    """A fault at a certain scan, counted from 1; partial ones count as well."""

    scan: Count
    fault: Literal["lost contact", "crash", "connection", "missing lines", "debris"]


class FaultConfig(Section):
    """Faults of a simulated microscope.

    Attributes:
        lost_contact: Probability, for every scan, that contact is lost in the middle of it.
        crash: That the tip crashes.
        connection: That the connection breaks; for acts too, before or after they are done.
        outage: That a broken connection cannot be made again at an attempt.
        missing_lines: That lines come as NaN.
        rough_region: Share of the sample that is bad besides `simulator.rough_fraction`.
        schedule: Faults at certain scans.
    """

    lost_contact: Fraction = 0.002
    crash: Fraction = 0.001
    connection: Fraction = 0.002
    outage: Annotated[float, Field(ge=0, lt=1)] = 0.3
    missing_lines: Fraction = 0.003
    rough_region: Fraction = 0.05
    schedule: tuple[ScheduledFault, ...] = ()

    @model_validator(mode="after")
    def _at_most_certain(self) -> FaultConfig:
        # One draw decides which fault a scan has, if any: a scan has no two.
        total = self.lost_contact + self.crash + self.connection + self.missing_lines
        if total > 1:
            raise ValueError(f"the probabilities for a scan add up to {total:g}, more than 1")
        return self
