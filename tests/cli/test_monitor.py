from __future__ import annotations

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.double_dqn import DoubleDQN
from agents.monitor import ProgressBar, TensorBoardMonitor
from tests.support.ring_env import RINGS, RingEnv, ring_config

NAMES = tuple(f"ring {ring}" for ring in range(RINGS))


@pytest.fixture(scope="module", params=[False, True], ids=["serial", "parallel"])
def events(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> EventAccumulator:
    directory = tmp_path_factory.mktemp("tensorboard")
    config = ring_config(parallel=request.param)
    model = DoubleDQN(RingEnv(), config, seed=0, tensorboard_log=str(directory))
    model.learn(250, TensorBoardMonitor(NAMES, image_every=100), log_interval=None)
    model.logger.close()
    accumulator = EventAccumulator(str(next(directory.iterdir())), {"tensors": 0})
    return accumulator.Reload()


def test_scalars_every_fifty_steps(events: EventAccumulator) -> None:
    scalars = set(events.Tags()["scalars"])
    expected = {"episode/length", "episode/return", "episode/success", "explore/epsilon"}
    expected |= {"learn/loss", "learn/learning_rate", "learn/replay_ratio"}
    expected |= {f"{group}/{name}" for group in ("q", "actions") for name in NAMES}
    assert expected <= scalars
    assert [event.step for event in events.Scalars("q/ring 0")] == [50, 100, 150, 200, 250]
    assert events.Scalars("learn/replay_ratio")[-1].value == pytest.approx(1, abs=0.05)


def test_counts_of_actions_add_up(events: EventAccumulator) -> None:
    counts = [[event.value for event in events.Scalars(f"actions/{name}")] for name in NAMES]
    assert np.sum(counts, axis=0).tolist() == [50] * 5


def test_images_and_histograms(events: EventAccumulator) -> None:
    assert [event.step for event in events.Images("observation/image")] == [100, 200]
    drawn = events.Images("observation/image")[0]
    assert drawn.height > drawn.width  # a line of text below
    histograms = events.Tags()["histograms"]
    assert "histogram/q" in histograms
    assert any(name.endswith("trunk.0.weight") for name in histograms)


def test_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    DoubleDQN(RingEnv(), ring_config(), seed=0).learn(60, ProgressBar())
    drawn = capsys.readouterr().err.split("\r")[-1]
    assert "60/60" in drawn
    for label in ("length=", "p(good)=", "epsilon=", "rate="):
        assert label in drawn
