from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from agents.double_dqn import DoubleDQN
from agents.learner import Learner, LearnerError, Snapshot, thinned_weights
from tests.support.ring_env import RINGS, RingEnv, mean_length, ring_config, ring_image
from tests.support.waiting import wait_until


class Steps:
    """Counts gradient steps; each takes a while, the one numbered ``fails`` raises."""

    def __init__(self, seconds: float = 0.0, fails: int = -1) -> None:
        self.done = 0
        self.seconds = seconds
        self.fails = fails

    def __call__(self) -> float:
        if self.done == self.fails:
            raise ZeroDivisionError("the network melted")
        time.sleep(self.seconds)
        self.done += 1
        return float(self.done)


def learner_threads() -> int:
    return sum(thread.name == "learner" for thread in threading.enumerate())


def test_exactly_what_is_allowed_is_done() -> None:
    steps = Steps()
    with Learner(steps, max_lag=3) as learner:
        for total in range(1, 51):
            learner.allow(total)
    assert steps.done == 50
    assert learner.backlog == 0
    assert learner_threads() == 0


def test_losses_are_handed_over_once() -> None:
    with Learner(Steps(), max_lag=3) as learner:
        learner.allow(5)
        learner.finish()
        assert learner.take_losses() == [1, 2, 3, 4, 5]
        assert learner.take_losses() == []


def test_the_actor_waits_for_a_slow_learner() -> None:
    steps = Steps(seconds=0.002)
    with Learner(steps, max_lag=4) as learner:
        for total in range(1, 31):
            learner.allow(total)
            assert total - steps.done <= 4


def test_the_learner_waits_for_a_slow_actor() -> None:
    steps = Steps()
    with Learner(steps, max_lag=4, done=7) as learner:
        learner.allow(9)
        wait_until(lambda: steps.done == 2)
        time.sleep(0.05)
        assert steps.done == 2


def allow_one_by_one(steps: Steps, max_lag: int, most: int) -> None:
    with Learner(steps, max_lag) as learner:
        for total in range(1, most + 1):
            learner.allow(total)


def test_a_failure_reaches_the_actor_with_its_message() -> None:
    steps = Steps(fails=3)
    with pytest.raises(LearnerError, match="the network melted") as caught:
        allow_one_by_one(steps, max_lag=0, most=10)
    assert steps.done == 3
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert learner_threads() == 0


def test_a_late_failure_is_not_lost() -> None:
    with pytest.raises(LearnerError, match="melted"):
        allow_one_by_one(Steps(0.01, fails=3), max_lag=100, most=10)


def allow_and_interrupt(steps: Steps) -> None:
    with Learner(steps, max_lag=1000) as learner:
        learner.allow(1000)
        raise KeyboardInterrupt


def test_an_error_of_the_actor_stops_the_learner_early() -> None:
    steps = Steps(seconds=0.01)
    with pytest.raises(KeyboardInterrupt):
        allow_and_interrupt(steps)
    assert steps.done < 1000
    assert learner_threads() == 0


def test_a_snapshot_changes_only_when_renewed() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    snapshot = Snapshot(network)
    inputs = torch.ones(1, 2)
    before = snapshot(inputs)
    network(torch.randn(8, 2))
    with torch.no_grad():
        network[0].weight.add_(1.0)  # type: ignore[operator]
    assert torch.equal(snapshot(inputs), before)
    assert network.training
    snapshot.renew(network)
    assert torch.equal(snapshot(inputs), network.eval()(inputs))


def test_weights_are_thinned_for_histograms() -> None:
    network = nn.Linear(100, 10)
    thinned = thinned_weights(network, most=50)
    assert {name: len(values) for name, values in thinned.items()} == {"weight": 50, "bias": 10}


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_parallel_training_holds_the_ratio_and_ends(ratio: float) -> None:
    model = DoubleDQN(RingEnv(), ring_config(parallel=True, replay_ratio=ratio), seed=0)
    lags = []

    class Watch(BaseCallback):
        def _on_rollout_start(self) -> None:
            lags.append(int(max(0, ratio * (model.num_timesteps - 50))) - model._n_updates)

        def _on_step(self) -> bool:
            return True

    model.learn(350, Watch())
    assert model._n_updates == 300 * ratio
    assert max(lags) <= model.config.max_lag
    assert learner_threads() == 0


def test_parallel_training_learns_the_toy() -> None:
    env = RingEnv(masked=False)
    model = DoubleDQN(env, ring_config(parallel=True), seed=0).learn(800)
    assert mean_length(model, RingEnv(masked=False)) < 1.1 * (1 + RINGS) / 2


def test_parallel_and_serial_training_decay_alike() -> None:
    rates = []
    for parallel in (False, True):
        model = DoubleDQN(RingEnv(), ring_config(parallel=parallel), seed=0).learn(200)
        rates.append(model.policy.optimizer.param_groups[0]["lr"])
    assert rates[0] == rates[1] < 3e-3


def test_a_failing_gradient_step_ends_training() -> None:
    model = DoubleDQN(RingEnv(), ring_config(parallel=True), seed=0).learn(100)
    model.replay_buffer.rewards[:] = np.inf
    with pytest.raises(LearnerError, match="loss is inf") as caught:
        model.learn(200, reset_num_timesteps=False)
    assert isinstance(caught.value.__cause__, FloatingPointError)
    assert learner_threads() == 0


def test_an_interrupt_ends_training_and_the_thread() -> None:
    class Interrupt(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 120:
                raise KeyboardInterrupt
            return True

    model = DoubleDQN(RingEnv(), ring_config(parallel=True), seed=0)
    with pytest.raises(KeyboardInterrupt):
        model.learn(800, Interrupt())
    assert learner_threads() == 0
    model.predict(ring_image(0), deterministic=True)
