"""The states of an image: from the choice of its region to the decision what its probe is like."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NoReturn

from spm_gym.envs.observation import ProcessedScan, may_be_good, process_scan, process_scans
from spm_gym.errors import InstrumentError, TipWithdrawn, UnclassifiableImage, UnsafeToContinue
from spm_gym.imaging import Diagnosis, diagnose
from spm_gym.journal.reader import Label
from spm_gym.runner.areas import Areas
from spm_gym.runner.conditioning import Conditioning
from spm_gym.runner.context import RunnerContext
from spm_gym.runner.ending import Ending
from spm_gym.runner.recovery import TROUBLES, Recovery, Trouble
from spm_gym.runner.run_state import required
from spm_gym.runner.states import State
from spm_gym.runner.watchdog import lasting_current
from spm_gym.runner.z_window import ZWindow
from spm_gym.types import Frame, Scan

_VOUCHED_IMAGES, _VOUCHED_GOOD = 3, 2
"""So many of the first images of a good tip are to be called good: one may be unlucky."""
_NOT_CLASSIFIED = "not classified"


class ImageHandlers:
    """Takes images, and decides what follows from them."""

    def __init__(
        self,
        context: RunnerContext,
        areas: Areas,
        recovery: Recovery,
        conditioning: Conditioning,
        ending: Ending,
        z_window: ZWindow,
    ) -> None:
        self._context = context
        self._imaging = context.run_state.imaging
        self.areas = areas
        self.recovery = recovery
        self.conditioning = conditioning
        self.ending = ending
        self.z_window = z_window
        self.env = context.env
        self.journal = context.journal
        self._scan: Scan | None = None
        self._processed: ProcessedScan | None = None

    def expect_good_start(self) -> None:
        """Hold the classifier to the operator's word that the tip is good."""
        self._imaging.vouched = []

    def choose(self) -> State:
        """Choose the next region, or leave an area that has none."""
        # Not while an action waits for its image, without which nobody would know what it did.
        if self._context.run_state.between_images:
            if self.ending.is_due():
                return State.STOP
            if self.z_window.adjustment_due():
                return State.RECOVER
        if self.env.budget is not None:
            self.env.budget.check_episodes()
        if self.areas.navigator.bad_sample >= self._context.config.max_bad_sample:
            # Rough wherever it was tried: searching on costs more than another area.
            self.areas.leave("bad sample")
        if not self._context.run_state.place.leaving:
            self.recovery.begin_frame()
            if self.areas.choose_frame():
                return State.PARTIAL
            self.areas.leave("used up")
        return State.CHANGE_AREA

    def partial(self) -> State:
        """Let the piezos settle at the new place; a lost tip shows in that image already.

        In conditioning a preview does so, if the settings have previews.
        """
        lines = self.env.config.preview_lines
        if lines is not None and self._context.run_state.conditioning.episode is not None:
            return self._take(replace(self.areas.frame, lines=lines))
        scan = self.areas.navigator.settle(self.areas.frame)
        if scan is None:
            return State.IMAGE
        diagnosis = diagnose(scan)
        trouble = diagnosis in (Diagnosis.LOST_CONTACT, Diagnosis.CRASH)
        label = Label.UNUSABLE if trouble else Label.DISCARDED
        number = self._store(scan, self.env.config.settle_fraction, label)
        # A partial image lacks lines by itself, and a rough place shows in the image as well.
        if trouble:
            self.journal.label_scan(number, label, diagnosis)
            self._raise_trouble(diagnosis, "seen in the partial image")
        return State.IMAGE

    def image(self) -> State:
        """Take the image."""
        following = self._take(self.areas.frame)
        self._imaging.images += 1
        return following

    def diagnose(self) -> State:
        """Decide whether the image or preview is usable, and whether an image follows a preview."""
        if not self._context.config.conditioning:
            return self._survey()
        outcome = self._read_outcome()
        if not isinstance(outcome, ProcessedScan):
            return self._leave_out(outcome)
        if self._imaging.over_current:
            return self._leave_out(Diagnosis.CRASH)
        self._processed = outcome
        if outcome.preview and may_be_good(outcome, self.env.config):
            self._record(outcome)
            self._label(Label.PREVIEW, Label.UNKNOWN if outcome.unknown else "")
            return State.IMAGE
        self._finish_usable()
        return State.CLASSIFY

    def _survey(self) -> State:
        """Keep a usable image without a verdict: nothing may follow from it but the next one."""
        diagnosis = diagnose(self._scan_in_hand())
        if diagnosis is not Diagnosis.FINE:
            return self._leave_out(diagnosis)
        if self._imaging.over_current:
            return self._leave_out(Diagnosis.CRASH)
        self._label(Label.UNCLASSIFIED)
        self._finish_usable()
        return State.CHOOSE

    def _finish_usable(self) -> None:
        # Only a usable image ends a trouble: an approach that succeeds and crashes again would
        # otherwise go on for ever.
        self.recovery.succeed()
        self.areas.finish_frame()

    def _leave_out(self, diagnosis: Diagnosis) -> State:
        """Label an image that is not usable; rough sample is avoided, all else is a trouble.

        The heights of a tip in contact can look fine: then the current alone has shown a crash.
        """
        if diagnosis is Diagnosis.ROUGH:
            self._label(Label.BAD_SAMPLE, diagnosis)
            self.areas.reject_frame()
            return State.CHOOSE
        self._label(Label.UNUSABLE, diagnosis)
        preview = self._scan_in_hand().frame.is_preview
        self._raise_trouble(diagnosis, f"seen in the {'preview' if preview else 'image'}")

    def classify(self) -> State:
        """Note how the classifier calls the probe; in conditioning that ends the step."""
        processed, scan = self._processed_in_hand(), self._scan_number
        self._record(processed)
        if processed.unknown:
            return self._pass_over()
        self._imaging.unknown = 0
        if self.env.budget is not None:
            self.env.budget.observe_image(self.env.is_good(processed))
        if self._context.run_state.conditioning.episode is None:
            return State.COLLECT
        self._label(Label.CONDITIONING)
        outcome = self.conditioning.observe(processed, scan)
        if not outcome:
            return State.CONDITION
        self._imaging.bad_probe = 0
        if outcome == "limit":
            # One more bad image in the new area is enough to go on.
            self._imaging.bad_probe = self._context.config.condition_after - 1
            self.areas.leave("time limit")
        return State.CHOOSE

    def collect(self) -> State:
        """Collect a good image, or start conditioning after enough bad ones."""
        processed = self._processed_in_hand()
        if processed.unknown:
            return self.classify()  # with another classifier than before the program was stopped
        good = self.env.is_good(processed)
        self._label(Label.GOOD if good else Label.BAD_PROBE)
        # One bad image may be the fault of the sample; a row of them is that of the probe.
        self._imaging.bad_probe = 0 if good else self._imaging.bad_probe + 1
        if self._imaging.vouched is not None:
            self._check_vouched([*self._imaging.vouched, good])
        # While the operator's word is being compared with the classifier's nothing is conditioned.
        if self._imaging.vouched is not None:
            return State.CHOOSE
        if good:
            return self._after_good()
        if self._imaging.bad_probe < self._context.config.condition_after:
            return State.CHOOSE
        self.conditioning.begin(processed, self._scan_number)
        return State.CONDITION

    def good_image(self) -> tuple[int, ProcessedScan]:
        """Return number and content of the good image in hand."""
        return self._scan_number, self._processed_in_hand()

    def _after_good(self) -> State:
        if self._context.config.when_good == "stop":
            return self.ending.leave_good()
        return State.CHOOSE if self._context.config.program is None else State.HAND_OVER

    def read_current(self) -> float:
        """Read the current that the tip draws, A; NaN if it cannot be read."""
        config = self._context.config
        try:
            return lasting_current(self.env.instrument, self._most_current, config.confirm_s)
        except InstrumentError as error:
            # The image is there and is to be classified; the next command meets what is wrong.
            self._context.add_event("watchdog", f"the current could not be read: {error}")
            return math.nan

    def is_over_current(self, current: float) -> bool:
        """Check whether a current (A) is more than imaging ever draws; NaN is not."""
        return abs(current) > self._most_current

    @property
    def _most_current(self) -> float:
        return self._context.config.over_current_nA * 1e-9

    def grant_new_attempts(self) -> None:
        """Count unknown images from zero, since a person has started the run again."""
        self._imaging.unknown = 0

    def _pass_over(self) -> State:
        """Conclude nothing from an unknown image: an action waits for the next one.

        Raises:
            UnsafeToContinue: There are too many in a row.
        """
        self._label(Label.UNKNOWN)
        self._imaging.unknown += 1
        most = self._context.config.unknown_after
        if self._imaging.unknown >= most:
            raise UnsafeToContinue(
                f"unknown images in a row: {self._imaging.unknown} (operation.unknown_after = "
                f"{most}). They are unlike all that the classifier was trained with, so it cannot "
                "tell how the tip is. If they show the sample as it is to be, label them "
                "(spm-gym label) and train a classifier with them, or use another one "
                "(env.classifier)"
            )
        return State.CHOOSE

    def _check_vouched(self, vouched: list[bool]) -> None:
        """Doubt the classifier, if it calls a tip bad that a person calls good.

        Raises:
            UnsafeToContinue: It does.
        """
        settled = len(vouched) >= _VOUCHED_IMAGES
        self._imaging.vouched = None if settled else vouched
        if settled and sum(vouched) < _VOUCHED_GOOD:
            raise UnsafeToContinue(
                "the tip is good, says operation.require_good_start, and the classifier calls "
                f"{sum(vouched)} of the first {len(vouched)} images good: either it cannot "
                "classify this sample at this bias, setpoint and image size, or the tip is not "
                "good. No conditioning was started"
            )

    def _raise_trouble(self, diagnosis: Diagnosis, where: str) -> NoReturn:
        """End the state with the trouble that an image shows.

        Raises:
            TipWithdrawn: Somebody has withdrawn the tip, which looks like a crash in an image.
            Trouble: Anything else.
        """
        out_of_contact = diagnosis in (Diagnosis.LOST_CONTACT, Diagnosis.CRASH)
        # A tip that is pulled back leaves the same heights at the end of the z range as a crash.
        if out_of_contact and not self.env.instrument.status().approached:
            raise TipWithdrawn(f"the tip was withdrawn: {where}")
        raise Trouble(TROUBLES[diagnosis], where)

    def _take(self, frame: Frame) -> State:
        """Take a whole image, or a preview."""
        self._scan = self.areas.navigator.image(frame)
        self.z_window.observe(self._scan)
        self._imaging.scan = self._store(self._scan, 1.0, None)
        # Now, while the tip still stands where it may have crashed.
        current = self.read_current()
        self._imaging.over_current = self.is_over_current(current)
        # Read anyway: the trend on the pages costs the instrument no command.
        self.journal.record_reading(self._imaging.scan, current=current)
        return State.DIAGNOSE

    def _record(self, processed: ProcessedScan) -> None:
        # In columns apart: another classifier gives that of a preview, and no figure may mix them.
        column = "preview_probability" if processed.preview else "probability"
        probability = None if processed.unknown else processed.probability
        values = {column: probability, "clean_side": processed.clean_side}
        self.journal.record_reading(self._scan_number, **values)

    def _store(self, scan: Scan, fraction: float, label: Label | None) -> int:
        run_state = self._context.run_state
        episode = run_state.conditioning.episode
        self._processed = None
        number = self.journal.add_scan(
            scan,
            fraction=fraction,
            area=run_state.place.area,
            elapsed=run_state.clock.elapsed,
            label=label,
            episode=None if episode is None else episode.number,
        )
        self._imaging.scans += 1
        if label is not None:
            self._imaging.labels[label] += 1
        return number

    @property
    def _scan_number(self) -> int:
        return required(self._imaging.scan, "an image")

    def _label(self, label: Label, reason: str = "") -> None:
        # The other labels are those of images, and counted as such; what is wrong with a preview
        # its reason says.
        if self._scan_in_hand().frame.is_preview:
            label = Label.PREVIEW
        self.journal.label_scan(self._scan_number, label, reason)
        self._imaging.labels[label] += 1

    def _scan_in_hand(self) -> Scan:
        if self._scan is None:
            self._scan = self.journal.scan(self._scan_number)
        return self._scan

    def _read_outcome(self) -> ProcessedScan | Diagnosis:
        """Diagnose and classify the image in hand.

        Raises:
            UnclassifiableImage: The classifier has no answer for it; it is labelled so.
        """
        # Whether the classifier takes the image comes before its diagnosis: what another bias or
        # scale makes look rough is no bad sample.
        scan = self._scan_in_hand()
        [outcome] = process_scans([scan], [self.env.classifier_of(scan)], self.env.config)
        if isinstance(outcome, UnclassifiableImage):
            self._label(Label.UNUSABLE, _NOT_CLASSIFIED)
            raise outcome
        return outcome

    def _processed_in_hand(self) -> ProcessedScan:
        """Return the usable image in hand; after a restart it is read again from the journal."""
        if self._processed is None:
            try:
                scan = self._scan_in_hand()
                self._processed = process_scan(scan, self.env.classifier_of(scan), self.env.config)
            except UnclassifiableImage:
                self._label(Label.UNUSABLE, _NOT_CLASSIFIED)
                raise
        return self._processed
