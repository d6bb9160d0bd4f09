"""Conditioning in operation: an ordinary episode of the environment, without its damaging reset.

The images come from the runner, so the two halves of a step, `act` and `observe`, lie apart.
"""

from __future__ import annotations

import json
import math

from spm_gym.action_index import action_index
from spm_gym.config import OperationConfig
from spm_gym.envs.observation import ProcessedScan, process_scan
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import UnclassifiableImage
from spm_gym.journal.writer import Journal
from spm_gym.runner.policy import RunPolicy
from spm_gym.runner.run_state import RunState
from spm_gym.types import Transition


class Conditioning:
    """Episodes of conditioning, each step of them in the journal.

    Args:
        env: The environment over the microscope.
        config: How to operate.
        journal: Is told of everything.
        policy: Who chooses the actions.
        memory: Where the run stands.
    """

    def __init__(
        self,
        env: ProbeConditioningEnv,
        config: OperationConfig,
        journal: Journal,
        policy: RunPolicy,
        memory: RunState,
    ) -> None:
        self.env = env
        self.config = config
        self.journal = journal
        self.policy = policy
        self.memory = memory

    def begin(self, processed: ProcessedScan) -> None:
        """Begin an episode with an image of a bad probe."""
        m = self.memory
        assert m.scan is not None
        m.episode = self.journal.begin_episode(m.area, m.now, m.elapsed, m.scan)
        m.counters["episodes"] += 1
        m.steps, m.decision_scan = 0, m.scan
        self.env.reset(options={"damage": False, "processed": processed})
        self._event("episode", f"conditioning {m.episode} begins after {m.bad_probe} bad images")

    def act(self) -> tuple[float, float]:
        """Choose an action and carry it out; returns where, m.

        Raises:
            UnclassifiableImage: The agent has no values to choose by; nothing was done.
            InstrumentError: It failed; what it has done will be seen, and it is not repeated.
            ValueError: The answer to what to do is no action; nothing was done.
        """
        m = self.memory
        processed = self._present()
        assert m.episode is not None
        decision = self.policy.choose(
            processed.observation.copy(), processed.mask.copy(), m.episode
        )
        values = decision.values
        if values is not None and not all(map(math.isfinite, values)):
            raise UnclassifiableImage(
                f"the agent's values of the actions are {values} and not all finite, so it cannot "
                "choose; go on with another agent (operation.agent)"
            )
        # Before the journal has it, and the mask is asked: -1 would be the last action.
        chosen = action_index(decision.action, len(self.env.config.actions))
        refused = not processed.mask[chosen]
        m.step = self.journal.add_step(
            m.episode,
            m.steps + 1,
            scan=m.decision_scan,
            action=chosen,
            name=self.env.config.actions[chosen].name,
            policy=decision.policy,
            mask=json.dumps(processed.mask.tolist()),
            q=json.dumps(values),
            refused=bool(refused),
        )
        m.counters["actions"] += 1
        m.chosen, m.refused, m.uncertain = chosen, bool(refused), True
        before = self.journal.last_act()
        try:
            self.env.act(chosen)
            m.uncertain = self.env.uncertain
        finally:
            after = self.journal.last_act()
            self.journal.end_step(m.step, act=after if after != before else None)
        return processed.place

    def adopt_cut_off(self, act: int) -> None:
        """Take up a step that was cut off in the middle of its act: what it did will be seen."""
        m, step = self.memory, self.journal.last_step()
        m.step, m.chosen, m.refused, m.uncertain = step["id"], step["action"], False, True
        m.counters["actions"] += 1
        if self.env.budget is not None:
            self.env.budget.count_action()
        self.journal.end_step(m.step, act=act)

    def observe(self, processed: ProcessedScan) -> str:
        """Take in the image that followed.

        Returns:
            How the episode has ended, "good" or "limit"; "" if it goes on.
        """
        m, env = self.memory, self.env
        if m.step is None:
            # The program was stopped between two steps: the next decision rests on a fresh image.
            env.resume_episode(processed, m.steps)
            m.decision_scan = m.scan
            return self._end("good") if env.is_good(processed.probability) else ""
        assert m.chosen is not None
        before = self._present()
        observation, reward, terminated, truncated, info = env.observe(processed)
        self.journal.end_step(
            m.step,
            scan_after=m.scan,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            uncertain=m.uncertain,
        )
        change = f"{before.probability:.3f} -> {processed.probability:.3f}"
        self._event("action", f"{info['action']}: probability of a good probe {change}")
        if self.config.learn and not m.uncertain:
            self.policy.learn(
                Transition(
                    before.observation.copy(),
                    m.chosen,
                    reward,
                    observation,
                    info["action_mask"],
                    terminated,
                    truncated,
                )
            )
            m.unsaved += 1
        m.learned, m.decision_scan = m.step, m.scan
        m.steps, m.step, m.chosen = m.steps + 1, None, None
        if terminated:
            return self._end("good")
        return self._end("limit") if truncated else ""

    def _end(self, outcome: str) -> str:
        m = self.memory
        assert m.episode is not None
        self.journal.end_episode(m.episode, outcome, m.now, m.elapsed)
        self._event("episode", f"conditioning {m.episode} ends after {m.steps} actions: {outcome}")
        m.episode = m.decision_scan = None
        return outcome

    def _present(self) -> ProcessedScan:
        """The image that the decision rests on: at hand, or in the journal after a restart."""
        m = self.memory
        if self.env.processed is None:
            assert m.decision_scan is not None
            processed = process_scan(
                self.journal.scan(m.decision_scan), self.env.classifier, self.env.config
            )
            self.env.resume_episode(processed, m.steps, m.chosen, m.refused, m.uncertain)
            return processed
        return self.env.processed

    def _event(self, kind: str, text: str) -> None:
        self.journal.add_event(self.memory.now, kind, text)
