"""Conditioning in operation: an ordinary episode of the environment, without its damaging reset.

The images come from the runner, so the two halves of a step, `act` and `observe`, lie apart.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict

from spm_gym.action_index import action_index
from spm_gym.envs.observation import ProcessedScan, process_scan
from spm_gym.errors import UnclassifiableImage
from spm_gym.runner.context import RunnerContext
from spm_gym.runner.run_state import OpenEpisode, OpenStep, required
from spm_gym.scale import probability_text
from spm_gym.types import Decision, Transition


class Conditioning:
    """Episodes of conditioning, each step of them in the journal."""

    def __init__(self, context: RunnerContext) -> None:
        self._context = context
        self._state = context.run_state.conditioning
        self.env = context.env
        self.journal = context.journal

    @property
    def checkpoint_due(self) -> bool:
        """Whether enough was learned since the last checkpoint."""
        return self._state.unsaved >= self._context.config.checkpoint_every

    def begin(self, processed: ProcessedScan, scan: int) -> None:
        """Begin an episode with an image of a bad probe.

        Args:
            processed: The image.
            scan: Its number.
        """
        run_state = self._context.run_state
        clock, bad_probe = run_state.clock, run_state.imaging.bad_probe
        number = self.journal.begin_episode(run_state.place.area, clock.now, clock.elapsed, scan)
        self._state.episode = OpenEpisode(number, scan)
        self._state.episodes += 1
        # The probe is bad by itself: nothing is damaged on purpose, and the image is there already.
        self.env.reset(options={"damage": False, "processed": processed})
        text = f"conditioning {number} begins after {bad_probe} bad images"
        self._context.add_event("episode", text)

    def act(self) -> tuple[float, float]:
        """Choose an action and carry it out; returns where, m.

        Raises:
            UnclassifiableImage: The agent has no values to choose by, or the image is unknown;
                nothing was done.
            InstrumentError: It failed; the next image shows what it did, and it is not repeated.
            ValueError: The answer to what to do is no action; nothing was done.
        """
        episode = self._episode
        processed = self._present(episode)
        # Only with another classifier than the one that called it bad before the program was
        # stopped: the runner lets no unknown image come to a decision.
        if processed.unknown:
            raise UnclassifiableImage(
                f"scan {episode.scan}, on which the next action is to be decided, is unlike all "
                "that the classifier was trained with; use another one (env.classifier)"
            )
        decision = self._decide(processed, episode.number)
        # Before the journal has it, and the mask is asked: -1 would be the last action.
        action = action_index(decision.action, len(self.env.config.actions))
        refused = not processed.mask[action]
        # Before the act, so that a kill in the middle leaves a decision to which it belongs.
        row = self.journal.add_step(
            episode.number,
            episode.steps + 1,
            scan=episode.scan,
            action=action,
            name=self.env.config.actions[action].name,
            policy=decision.policy,
            mask=json.dumps(processed.mask.tolist()),
            q=json.dumps(decision.values),
            forecast=None if decision.forecast is None else json.dumps(asdict(decision.forecast)),
            refused=bool(refused),
        )
        self._state.actions += 1
        # Uncertain until the act has returned: an error on the way leaves it so.
        episode.step = step = OpenStep(row, action, bool(refused), uncertain=True)
        # A refused action carries out no act: then the number stays the same.
        before = self.journal.last_act()
        try:
            self.env.act(action)
            step.uncertain = self.env.uncertain
        finally:
            # Errors do not say whether an intent was recorded before them; the number of the last
            # act does.
            after = self.journal.last_act()
            self.journal.end_step(row, act=after if after != before else None)
        return processed.place

    def adopt_cut_off(self, act: int) -> None:
        """Take up a step that was cut off in the middle of its act: an image will show its outcome.

        Args:
            act: Its number.
        """
        row = self.journal.last_step()
        self._episode.step = OpenStep(row["id"], row["action"], refused=False, uncertain=True)
        self._state.actions += 1
        # It may have been done, so it counts.
        if self.env.budget is not None:
            self.env.budget.count_action()
        self.journal.end_step(row["id"], act=act)

    def doubt_last_act(self) -> None:
        """Note that the next image shows what a crash did to the tip, not what the action did."""
        if self._state.episode is not None and self._state.episode.step is not None:
            self._state.episode.step.uncertain = True

    def observe(self, processed: ProcessedScan, scan: int) -> str:
        """Take in the image that followed.

        Args:
            processed: The image.
            scan: Its number.

        Returns:
            How the episode has ended, "good" or "limit"; "" if it goes on.
        """
        episode = self._episode
        if episode.step is None:
            # The program was stopped between two steps: the next decision rests on a fresh image.
            self.env.resume_episode(processed, episode.steps)
            episode.scan = scan
            return self._end("good") if self.env.is_good(processed) else ""
        terminated, truncated = self._finish_step(episode, episode.step, processed, scan)
        self._state.learned, episode.scan = episode.step.row, scan
        episode.steps, episode.step = episode.steps + 1, None
        if terminated:
            return self._end("good")
        return self._end("limit") if truncated else ""

    def save(self) -> None:
        """Write a checkpoint, unless nothing was learned since the last one."""
        if self._state.unsaved:
            self._context.policy.save(self._state.learned)
            self._state.unsaved = 0

    @property
    def _episode(self) -> OpenEpisode:
        return required(self._state.episode, "an episode of conditioning")

    def _decide(self, processed: ProcessedScan, episode: int) -> Decision:
        # Copies: a policy that writes into the mask would allow itself what the sample does not.
        decision = self._context.policy.choose(
            processed.observation.copy(), processed.mask.copy(), episode
        )
        values = decision.values
        if decision.forecast is not None:
            values = decision.forecast.actions_to_go
        # Among values that are not numbers, the largest would be chosen by accident.
        if values is not None and not all(map(math.isfinite, values)):
            raise UnclassifiableImage(
                f"the agent's values of the actions are {values} and not all finite, so it cannot "
                "choose; go on with another agent (operation.agent)"
            )
        return decision

    def _finish_step(
        self, episode: OpenEpisode, step: OpenStep, processed: ProcessedScan, scan: int
    ) -> tuple[bool, bool]:
        """Record and learn what came of a decision; returns whether it terminated or truncated."""
        before = self._present(episode)
        observation, reward, terminated, truncated, info = self.env.observe(processed)
        self.journal.end_step(
            step.row,
            scan_after=scan,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            uncertain=step.uncertain,
        )
        change = f"{_probability(before)} -> {_probability(processed)}"
        self._context.add_event("action", f"{info['action']}: probability of a good probe {change}")
        if self._context.config.learn:
            self._context.policy.learn(
                Transition(
                    before.observation.copy(),
                    step.action,
                    reward,
                    observation,
                    info["action_mask"],
                    terminated,
                    truncated,
                    step.uncertain,
                ),
                episode.number,
            )
            self._state.unsaved += not step.uncertain
        return terminated, truncated

    def _end(self, outcome: str) -> str:
        episode, clock = self._episode, self._context.run_state.clock
        self.journal.end_episode(episode.number, outcome, clock.now, clock.elapsed)
        text = f"conditioning {episode.number} ends after {episode.steps} actions: {outcome}"
        self._context.add_event("episode", text)
        self._state.episode = None
        return outcome

    def _present(self, episode: OpenEpisode) -> ProcessedScan:
        """Return the image that the decision rests on; after a restart it is in the journal."""
        if self.env.processed is None:
            scan = self.journal.scan(episode.scan)
            processed = process_scan(scan, self.env.classifier_of(scan), self.env.config)
            step = episode.step
            if step is None:
                self.env.resume_episode(processed, episode.steps)
            else:
                self.env.resume_episode(
                    processed, episode.steps, step.action, step.refused, step.uncertain
                )
            return processed
        return self.env.processed


def _probability(processed: ProcessedScan) -> str:
    # Another classifier's than that of images, so the two are not to be compared to the last digit.
    text = probability_text(processed.probability)
    return f"{text}{' (preview)' if processed.preview else ''}"
