from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.config import PAPER_ACTIONS, Config, ConfigError, load_config
from spm_gym.types import Dip, Frame, Pulse, Stall

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("agent.stepz=1", ["agent.stepz", "1", "steps"]),
        ("simulator.mode=blur", ["simulator.mode", "blur", "current", "linear", "power above 1"]),
        ("simulator.mode=1", ["simulator.mode", "1", "power above 1", "20"]),
        ("simulator.mode=true", ["simulator.mode", "True", "power above 1"]),
        ("agents.steps=1", ["agents", "allowed", "agent"]),
        ("agent.steps=-1", ["agent.steps", "-1", "greater"]),
        ("agent.gamma=1.5", ["agent.gamma", "1.5", "less than or equal to 1"]),
        ("env.image_nm=wide", ["env.image_nm", "wide", "number"]),
        ("env.image_nm=.nan", ["env.image_nm", "nan", "finite"]),
        ("env.ground_truth=me", ["env.ground_truth", "me", "boolean"]),
        ("env.regions.area_nm=5", ["regions.area_nm", "image_nm"]),
        ("real.z_window=[0.9,0.1]", ["real", "z_window must be [least, most]", "[0.9, 0.1]"]),
        ("real.z_window=[0.1,1.2]", ["real.z_window.1", "1.2", "less than or equal to 1"]),
        ("real.z_window=[.nan,0.9]", ["real.z_window.0", "nan", "finite"]),
        ("env.actions=[{name: a, kind: dip}]", ["env.actions.0", "depth_nm"]),
        ("env.actions=[{name: a, kind: stall}]", ["env", "anywhere"]),
        ("agent.network.channels=[8, 0]", ["agent.network.channels.1", "0"]),
        ("agent=5", ["agent", "5"]),
        ("agent.steps", ["key=value"]),
        ("agent.steps=[", ["YAML"]),
        ("agent.steps.more=1", ["agent.steps", "1"]),
    ],
)
def test_impossible_settings_are_one_line_with_key_value_and_remedy(
    override: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "a: [1", "\x00"])
def test_files_that_are_not_settings_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_config(tmp_path / "none.yaml")


def test_arguments_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("agent: {steps: 7, gamma: 0.5}\n")
    config = load_config(path, ["agent.steps=9"])
    assert (config.agent.steps, config.agent.gamma) == (9, 0.5)
    assert config.agent.batch_size == Config().agent.batch_size


def test_settings_survive_their_own_yaml(tmp_path: Path) -> None:
    config = load_config(None, ["agent.steps=9", "env.actions.0=1"][:1])
    path = tmp_path / "again.yaml"
    path.write_text(config.to_yaml())
    assert load_config(path) == config


@pytest.mark.parametrize("name", ["default", "paper", "smoke", "real"])
def test_shipped_configurations_load(name: str) -> None:
    load_config(CONFIGS / f"{name}.yaml")


def test_the_default_file_lists_every_default() -> None:
    listed = yaml.safe_load((CONFIGS / "default.yaml").read_text())
    assert listed == yaml.safe_load(Config().to_yaml())


def test_the_twelve_actions_are_the_paper_s() -> None:
    table = [
        (a.conditioning, a.clean_nm, a.blocked_nm, a.damaging, a.anywhere) for a in PAPER_ACTIONS
    ]
    dips = [0.8, 1.0, 1.2, 1.8, 2.5, 5.0]
    assert [row[0] for row in table] == [
        Stall(),
        *(Pulse(bias, 0.2) for bias in (2.5, 4.0, -2.5, -4.0, -8.0)),
        *(Dip(pytest.approx(depth * 1e-9), 0.02, 0.2) for depth in dips),
    ]
    assert [row[1] for row in table] == [0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4]
    assert [row[2] for row in table] == [50, 10, 10, 10, 10, 10, 10, 10, 10, 10, 25, 25]
    assert [row[3] for row in table] == [False] * 5 + [True] * 7
    assert [row[4] for row in table] == [True] + [False] * 11


@given(
    st.floats(-400e-9, 400e-9),
    st.floats(-400e-9, 400e-9),
    st.floats(-3.2, 3.2),
    st.integers(8, 1024),
)
def test_frame_positions_are_centred_and_turn_with_the_frame(
    x: float, y: float, angle: float, pixels: int
) -> None:
    frame = Frame(x, y, 10e-9, pixels, angle)
    middle = (pixels - 1) / 2
    assert frame.position(middle, middle) == pytest.approx((x, y), abs=1e-20)
    corner = frame.position(0, 0)
    half = 5e-9 - frame.pixel / 2
    distance = ((corner[0] - x) ** 2 + (corner[1] - y) ** 2) ** 0.5
    assert distance == pytest.approx(half * 2**0.5)
    straight = Frame(0, 0, 10e-9, pixels).position(0, 0)
    assert straight == pytest.approx((-half, half))
