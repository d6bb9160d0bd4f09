"""The record of a training or an evaluation on a microscope, in the same journal as that of a run.

Every entry is committed together with the state of the session, so that a kill at any instant
leaves a journal that agrees with itself: the file of a scan is whole before its row, and an act's
intent is committed before the act, by the guard.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from agents.run_policies import RandomRunPolicy
from spm_gym.assembly.scan_labels import scan_label
from spm_gym.config import Config
from spm_gym.envs.observation import ProcessedScan
from spm_gym.envs.observer import EnvObserver
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import Aborted, InstrumentError, UnclassifiableImage
from spm_gym.imaging import Diagnosis
from spm_gym.instrument.contract import Instrument
from spm_gym.journal.reader import SAFE_END, UNSAFE_END, JournalError, Label
from spm_gym.journal.writer import Journal
from spm_gym.plain_state import StateError
from spm_gym.runner.areas import Areas
from spm_gym.runner.clock import steady_clock
from spm_gym.runner.context import RunnerContext, RunnerHooks
from spm_gym.runner.recovery import TROUBLES
from spm_gym.runner.run_state import EndingState, OpenEpisode, OpenStep, RunState, required
from spm_gym.runner.shutdown import where_left, withdraw
from spm_gym.runner.signals import ignoring_signals, is_interrupt
from spm_gym.runner.states import ASKED_TO_STOP, INTERRUPTED, State
from spm_gym.types import Expectation, Frame, Scan

CUT_OFF = "cut off"
"""Outcome of an episode in the middle of which the program has ended."""

_ON_PROBE = ("pulse", "dip", "stall")
_PIECE_S = 1.0


class EpisodeRecorder(EnvObserver):
    """Keeps the scans, episodes, steps and approach areas of an environment in a journal.

    Args:
        config: Settings of the session.
        journal: Of its directory; what a killed session has left open there is closed first.
        stop: Whether somebody asks for the end.

    Attributes:
        policy: Name of the policy that chooses the actions.
        expectation: Gives what that policy expects of the actions for an image (1, H, W).
    """

    def __init__(self, config: Config, journal: Journal, stop: Callable[[], bool]) -> None:
        self._config = config
        self._journal = journal
        self._stop = stop
        self._clock = steady_clock()
        self.policy = "agent"
        self.expectation: Callable[[NDArray[np.float32]], Expectation] = lambda image: Expectation()
        self._env: ProbeConditioningEnv | None = None
        self._areas: Areas | None = None
        self._present: int | None = None
        self._act_before: int | None = None
        kept = journal.load_state()
        try:
            self._state = RunState() if kept is None else RunState.from_json(kept[0])
        except StateError as error:
            raise JournalError(f"{journal.run} cannot go on: {error}") from error
        self._state.clock.now = self._clock()
        self._take_up(resumed=kept is not None)

    def _take_up(self, resumed: bool) -> None:
        """Close what a killed session has left open."""
        # Before anything is scanned: the next scan takes the number of the orphan.
        self._journal.remove_orphan()
        unknown = self._journal.give_up_unfinished()
        act = "" if unknown is None else str(unknown["act"])
        if unknown is not None:
            text = f"{act}: cut off in the middle of it; not repeated"
            self._journal.add_event(time.time(), "unknown outcome", text)
        if not resumed:
            self._journal.keep()
            return
        state = self._state
        if unknown is not None and act in _ON_PROBE and state.state is State.CONDITION:
            # Its step was committed with the intent, and the count of steps after the act.
            step = self._journal.last_step()["id"]
            self._journal.end_step(step, act=unknown["number"], uncertain=True)
            state.conditioning.actions += 1
        if act == "move area":
            # Kept with the state: a start that fails must not forget it.
            state.place.leaving = "killed during the move"
        self._close_open("failed")
        state.state, state.tip.in_contact, state.ending = State.CHOOSE, False, EndingState()
        self._commit()

    def follow(self, env: ProbeConditioningEnv, steps: int) -> None:
        """Record an environment from now on, whose tip is at the surface.

        Args:
            env: It gets the map of used places of an earlier session.
            steps: Done so far, as the agent counts them.
        """
        state, rng = self._state, np.random.default_rng()
        # Connecting and loading are no time of operation.
        state.clock.now = self._clock()
        state.tip.in_contact, state.training.steps = True, steps
        self._env, env.observer = env, self
        # Its policy is asked for nothing: here the trainer chooses.
        policy, hooks = RandomRunPolicy(rng), RunnerHooks(clock=self._clock)
        operation = self._config.operation
        context = RunnerContext(env, operation, self._journal, policy, hooks, rng, state)
        self._areas = areas = Areas(context)
        env.navigator.on_area = lambda: self._enter_area(certain=True, reason="used up")
        env.navigator.wait = self._wait
        if not state.place.entered:
            areas.begin()
        else:
            # A checkpoint is older than the journal: places were used since then.
            areas.restore_map()
        if state.place.leaving:
            areas.enter_next(certain=False, reason=state.place.leaving)
        state.state = State.CHOOSE
        self._commit()

    def enter_fresh_area(self) -> None:
        """Note that the microscope was moved by hand, to an area that is fresh."""
        required(self._areas, "an environment").enter_unknown()
        self._commit()

    def before_scan(self, frame: Frame) -> None:
        """Note what is scanned next.

        Raises:
            Aborted: Somebody asks for the end.
        """
        self._check_asked()
        # Committed before the scan, so that a page shows it, and a kill in it may leave a file.
        self._state.place.frame, self._state.state = frame, State.IMAGE
        self._commit()

    def after_partial(self, scan: Scan) -> None:
        """Keep a partial image."""
        self._keep(scan, self._config.env.settle_fraction, Label.DISCARDED, "")
        self._commit()

    def after_scan(
        self, scan: Scan, outcome: ProcessedScan | Diagnosis | UnclassifiableImage
    ) -> None:
        """Keep an image or a preview with its label, and what was read from it."""
        preview = scan.frame.is_preview
        number = self._keep(scan, 1.0, *scan_label(scan, outcome))
        self._state.imaging.images += not preview
        if isinstance(outcome, ProcessedScan):
            # In columns apart: they are answers of two classifiers.
            column = "preview_probability" if preview else "probability"
            probability = None if outcome.unknown else outcome.probability
            values = {column: probability, "clean_side": outcome.clean_side}
            self._journal.record_reading(number, **values)
            self._present = number
            self._end_troubles("recovered")
        elif outcome in TROUBLES:
            self._note_trouble(TROUBLES[outcome], scan.frame)
        self._state.state = State.CHOOSE
        self._commit()

    def before_act(self, action: int) -> None:
        """Note a decision; its row is committed with the intent of the act.

        Raises:
            Aborted: Somebody asks for the end.
        """
        self._check_asked()
        env, conditioning = self._required_env(), self._state.conditioning
        processed = required(env.processed, "an image")
        # Not with the reset: one that no decision follows is no episode.
        if conditioning.episode is None:
            self._begin_episode()
        episode = required(conditioning.episode, "an episode")
        # In this state alone the intent of an act may bring a step that is not counted yet.
        self._state.place.frame, self._state.state = None, State.CONDITION
        self._commit()
        # Now, for an agent that learns meanwhile expects something else after the act.
        values, forecast = self.expectation(processed.observation)
        # JSON has no NaN, and readers would stumble over it.
        if values is not None and not all(map(math.isfinite, values)):
            values = None
        refused = not processed.mask[action]
        row = self._journal.add_step(
            episode.number,
            episode.steps + 1,
            scan=episode.scan,
            action=action,
            name=env.config.actions[action].name,
            policy=self.policy,
            mask=json.dumps(processed.mask.tolist()),
            q=json.dumps(values),
            forecast=None if forecast is None else json.dumps(asdict(forecast)),
            refused=bool(refused),
        )
        conditioning.actions += 1
        episode.step = OpenStep(row, action, bool(refused), uncertain=True)
        self._act_before = self._journal.last_act()

    def after_act(self) -> None:
        """Note which act it was, if there was one."""
        self._close_act(self._required_env().uncertain)
        self._state.state = State.CHOOSE
        self._commit()

    def after_step(self, reward: float, terminated: bool, truncated: bool) -> None:
        """Note what came of the decision."""
        state, clock = self._state, self._state.clock
        episode = required(state.conditioning.episode, "an episode")
        step, scan = required(episode.step, "a decision"), required(self._present, "an image")
        self._journal.end_step(
            step.row,
            scan_after=scan,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            uncertain=step.uncertain,
        )
        state.training.steps += 1
        episode.scan, episode.steps, episode.step = scan, episode.steps + 1, None
        if terminated or truncated:
            outcome = "good" if terminated else "limit"
            self._journal.end_episode(episode.number, outcome, clock.now, clock.elapsed)
            state.conditioning.episode = None
        self._commit()

    @contextmanager
    def ending(
        self, instrument: Instrument, complete: str, may_stay: bool, can_withdraw: bool
    ) -> Iterator[None]:
        """Withdraw the tip after the block, and note how it ended and where the tip is.

        Args:
            instrument: The microscope.
            complete: The reason of an end without an error.
            may_stay: Whether the tip may stay at the surface, unless somebody asks for the end.
            can_withdraw: Whether the instrument can withdraw the tip at all.
        """
        try:
            yield
        except BaseException as error:
            with ignoring_signals():
                reason = ASKED_TO_STOP if isinstance(error, Aborted) else _reason(error)
                stays = not can_withdraw or (may_stay and not isinstance(error, Aborted))
                # An error of the instrument comes between two entries; anything else may come
                # in the middle of one, whose rows do not fit the state.
                if isinstance(error, InstrumentError):
                    failed = not isinstance(error, Aborted)
                    self._end(instrument, EndingState(reason, failed), stays)
                else:
                    self._cut_short(instrument, reason, stays)
            raise
        with ignoring_signals():
            self._end(instrument, EndingState(complete), may_stay or not can_withdraw)

    def _end(self, instrument: Instrument, ending: EndingState, stays: bool) -> None:
        """End between two entries: all of them are kept."""
        state = self._state
        # The intent of the withdrawal commits what is open, so that has to be in the state before.
        with suppress(sqlite3.Error):
            if state.state is State.CONDITION:
                self._close_act(uncertain=True)
                state.state = State.CHOOSE
            self._close_open("failed")
            self._commit()
        trouble = "" if stays else withdraw(instrument)
        state.tip.in_contact = stays
        state.state, state.ending = State.STOP, ending
        # The disk may be full; the tip is withdrawn all the same.
        with suppress(sqlite3.Error):
            self._note_end(ending.reason, stays, trouble)
            self._commit()

    def _cut_short(self, instrument: Instrument, reason: str, stays: bool) -> None:
        """End in the middle of an entry, which is forgotten."""
        with suppress(sqlite3.Error):
            self._journal.rollback()
        trouble = "" if stays else withdraw(instrument)
        with suppress(sqlite3.Error):
            self._note_end(reason, stays, trouble)
            self._journal.keep()

    def _note_end(self, reason: str, stays: bool, trouble: str) -> None:
        kind, where = UNSAFE_END if trouble else SAFE_END, where_left(stays, trouble)
        self._journal.add_event(self._state.clock.now, kind, f"{reason}; {where}")

    def _check_asked(self) -> None:
        # Here, too, for a driver may be unable to end a scan early.
        if self._stop():
            raise Aborted(ASKED_TO_STOP)

    def _wait(self, seconds: float) -> None:
        while seconds > 0:
            self._check_asked()
            self._required_env().instrument.wait(min(seconds, _PIECE_S))
            seconds -= _PIECE_S

    def _required_env(self) -> ProbeConditioningEnv:
        return required(self._env, "an environment")

    def _keep(self, scan: Scan, fraction: float, label: Label, reason: str) -> int:
        state, episode = self._state, self._state.conditioning.episode
        number = self._journal.add_scan(
            scan,
            fraction=fraction,
            area=state.place.area,
            elapsed=state.clock.elapsed,
            label=label,
            episode=None if episode is None else episode.number,
        )
        if reason:
            self._journal.label_scan(number, label, reason)
        state.imaging.scans += 1
        state.imaging.labels[label] += 1
        return number

    def _begin_episode(self) -> None:
        state, scan = self._state, required(self._present, "an image")
        clock, area = state.clock, state.place.area
        number = self._journal.begin_episode(area, clock.now, clock.elapsed, scan)
        state.conditioning.episode = OpenEpisode(number, scan)
        state.conditioning.episodes += 1

    def _close_act(self, uncertain: bool) -> None:
        episode = self._state.conditioning.episode
        if episode is None or episode.step is None:
            return
        # Errors do not say whether an intent was recorded before them; its number does.
        after = self._journal.last_act()
        act = after if after != self._act_before else None
        episode.step.uncertain = uncertain and not episode.step.refused
        self._journal.end_step(episode.step.row, act=act, uncertain=episode.step.uncertain)

    def _close_open(self, recoveries: str) -> None:
        """Close the episode under way, and the recoveries."""
        state, clock = self._state, self._state.clock
        if state.conditioning.episode is not None:
            number = state.conditioning.episode.number
            self._journal.end_episode(number, CUT_OFF, clock.now, clock.elapsed)
            state.conditioning.episode = None
        self._end_troubles(recoveries)

    def _note_trouble(self, kind: str, frame: Frame) -> None:
        state, recovery = self._state, self._state.recovery
        row = self._journal.add_recovery(
            kind,
            area=state.place.area,
            x=frame.x,
            y=frame.y,
            time=state.clock.now,
            elapsed=state.clock.elapsed,
            detail="seen in the image",
        )
        recovery.trouble, recovery.in_a_row = kind, recovery.in_a_row + 1
        recovery.total += 1
        recovery.open.append(row)
        self._journal.add_event(state.clock.now, "trouble", f"{kind}: seen in the image")

    def _end_troubles(self, result: str) -> None:
        recovery = self._state.recovery
        for row in recovery.open:
            self._journal.end_recovery(row, result)
        recovery.open, recovery.trouble, recovery.in_a_row = [], "", 0

    def _enter_area(self, certain: bool, reason: str) -> None:
        required(self._areas, "an environment").enter_next(certain, reason)
        self._commit()

    def _commit(self) -> None:
        clock, now = self._state.clock, self._clock()
        clock.elapsed += max(0.0, now - clock.now)
        clock.now = now
        if self._areas is not None:
            self._areas.keep_map()
        self._journal.commit(self._state.to_json(), None)


def _reason(error: BaseException) -> str:
    if isinstance(error, InstrumentError):
        return str(error)
    return INTERRUPTED if is_interrupt(error) else f"{type(error).__name__}: {error}"
