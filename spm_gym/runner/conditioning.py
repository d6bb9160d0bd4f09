"""Conditioning in operation: an ordinary episode of the environment, without its damaging reset.

The images come from the runner, so the two halves of a step, `act` and `observe`, lie apart.
"""

from __future__ import annotations

import json
import math

from spm_gym.action_index import action_index
from spm_gym.config import OperationConfig
from spm_gym.envs.observation import Look, read
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import UnjudgeableImage
from spm_gym.journal.writer import Journal
from spm_gym.runner.policy import Chooser
from spm_gym.runner.run_state import Memory


class Conditioning:
    """Episodes of conditioning, each step of them in the journal.

    Args:
        env: The environment over the microscope.
        config: How to operate.
        journal: Is told of everything.
        chooser: Who chooses the actions.
        memory: Where the run stands.
    """

    def __init__(
        self,
        env: ProbeConditioningEnv,
        config: OperationConfig,
        journal: Journal,
        chooser: Chooser,
        memory: Memory,
    ) -> None:
        self.env = env
        self.config = config
        self.journal = journal
        self.chooser = chooser
        self.memory = memory

    def begin(self, look: Look) -> None:
        """Begin an episode with an image of a bad probe."""
        m = self.memory
        assert m.scan is not None
        m.episode = self.journal.begin_episode(m.area, m.now, m.elapsed, m.scan)
        m.counters["episodes"] += 1
        m.steps, m.look = 0, m.scan
        self.env.reset(options={"damage": False, "look": look})
        self._event("episode", f"conditioning {m.episode} begins after {m.bad_probe} bad images")

    def act(self) -> tuple[float, float]:
        """Choose an action and carry it out; returns where, m.

        Raises:
            UnjudgeableImage: The agent has no values to choose by; nothing was done.
            InstrumentError: It failed; what it has done will be seen, and it is not repeated.
            ValueError: The answer to what to do is no action; nothing was done.
        """
        m = self.memory
        look = self._present()
        assert m.episode is not None
        answer, values = self.chooser.choose(look.observation.copy(), look.mask.copy(), m.episode)
        if values is not None and not all(map(math.isfinite, values)):
            raise UnjudgeableImage(
                f"the agent's values of the actions are {values} and not all finite, so it cannot "
                "choose; go on with another agent (operation.agent)"
            )
        # Before the journal has it, and the mask is asked: -1 would be the last action.
        chosen = action_index(answer, len(self.env.config.actions))
        refused = not look.mask[chosen]
        m.step = self.journal.add_step(
            m.episode,
            m.steps + 1,
            scan=m.look,
            action=chosen,
            name=self.env.config.actions[chosen].name,
            mask=json.dumps(look.mask.tolist()),
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
        return look.place

    def adopt_cut_off(self, act: int) -> None:
        """Take up a step that was cut off in the middle of its act: what it did will be seen."""
        m, step = self.memory, self.journal.last_step()
        m.step, m.chosen, m.refused, m.uncertain = step["id"], step["action"], False, True
        m.counters["actions"] += 1
        if self.env.budget is not None:
            self.env.budget.count_action()
        self.journal.end_step(m.step, act=act)

    def observe(self, look: Look) -> str:
        """Take in the image that followed.

        Returns:
            How the episode has ended, "good" or "limit"; "" if it goes on.
        """
        m, env = self.memory, self.env
        if m.step is None:
            # The program was stopped between two steps: the next decision rests on a fresh image.
            env.resume_episode(look, m.steps)
            m.look = m.scan
            return self._end("good") if env.is_good(look.probability) else ""
        assert m.chosen is not None
        before = self._present()
        observation, reward, terminated, truncated, info = env.observe(look)
        self.journal.end_step(
            m.step,
            scan_after=m.scan,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            uncertain=m.uncertain,
        )
        change = f"{before.probability:.3f} -> {look.probability:.3f}"
        self._event("action", f"{info['action']}: probability of a good probe {change}")
        if self.config.learn and not m.uncertain:
            self.chooser.learn(
                before.observation.copy(),
                m.chosen,
                reward,
                observation,
                terminated,
                truncated,
                info,
            )
            m.unsaved += 1
        m.learned, m.look = m.step, m.scan
        m.steps, m.step, m.chosen = m.steps + 1, None, None
        if terminated:
            return self._end("good")
        return self._end("limit") if truncated else ""

    def _end(self, outcome: str) -> str:
        m = self.memory
        assert m.episode is not None
        self.journal.end_episode(m.episode, outcome, m.now, m.elapsed)
        self._event("episode", f"conditioning {m.episode} ends after {m.steps} actions: {outcome}")
        m.episode = m.look = None
        return outcome

    def _present(self) -> Look:
        """The image that the decision rests on: at hand, or in the journal after a restart."""
        m = self.memory
        if self.env.look is None:
            assert m.look is not None
            look = read(self.journal.scan(m.look), self.env.judge, self.env.config)
            self.env.resume_episode(look, m.steps, m.chosen, m.refused, m.uncertain)
            return look
        return self.env.look

    def _event(self, kind: str, text: str) -> None:
        self.journal.add_event(self.memory.now, kind, text)
