"""Images that the classifier is not for are refused before anything is built, and at work."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from agents.classifier import ProbeClassifier
from spm_gym.assembly.classifier import build_classifier, check_classifier
from spm_gym.assembly.environment import make_env, make_vector_env
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import Config, ConfigError, load_config
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import UnclassifiableImage
from spm_gym.imaging.conditions import (
    TrainingConditions,
    classifier_findings,
)
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.runner.states import State
from spm_gym.types import Conditioning, Decision, Frame, Scan
from tests.support.scripted_runs import lab

TRAINED = TrainingConditions(
    "simulated", "MgPc on Ag(100)", (0.5, 1.0), (20e-12, 25e-12), (1.5e-10, 1.6e-10), 0.97, 100
)


class StubClassifier:
    """Classifier with training conditions, whose answer is a fixed number."""

    def __init__(self, answer: float = 0.02, conditions: TrainingConditions = TRAINED) -> None:
        self.answer = answer
        self.conditions = conditions
        self.asked = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.asked += len(images)
        return np.full(len(images), self.answer, np.float32)


def test_the_shipped_classifier_is_for_the_simulator_as_it_is() -> None:
    conditions = ProbeClassifier.load(shipped_classifier()).conditions
    config = Config()
    microscope = build_microscope(config)
    scan = microscope.scan(Frame(0, 0, config.env.image_nm * 1e-9, config.env.pixels))
    assert conditions.origin == "simulated"
    assert conditions.material == config.simulator.material
    assert conditions.bias == (scan.bias, scan.bias)
    assert conditions.setpoint == (scan.setpoint, scan.setpoint)
    assert conditions.pixel == (scan.frame.pixel, scan.frame.pixel)
    assert conditions.auc is not None
    assert conditions.auc > 0.99


def refused(name: str, *settings: str) -> str:
    """The settings are refused for one reason, and accepted by name."""
    with pytest.raises(ConfigError) as caught:
        make_env(overrides=settings)
    with pytest.raises(ConfigError):
        make_vector_env(2, overrides=settings)
    accepting = (*settings, f"env.accept_mismatch=[{name}]")
    make_env(overrides=accepting)
    make_vector_env(2, overrides=accepting)
    return str(caught.value)


def test_images_of_another_scale_are_refused_when_an_environment_is_made() -> None:
    assert "env.image_nm" in refused("pixel", "env.image_nm=20")


def test_another_molecule_is_refused_when_an_environment_is_made() -> None:
    text = refused("material", "simulator.molecule=PTCDA")
    assert "PTCDA on Ag(100)" in text


def test_bare_metal_is_refused_simulated_or_real() -> None:
    assert "is Ag(100) (env.material)" in refused("material", "simulator.molecules_per_nm2=0")
    refused("material", "env.material=Ag(111)")


def test_images_of_another_size_can_not_be_accepted() -> None:
    with pytest.raises(ConfigError, match=r"env.pixels = 32.*64 x 64"):
        make_env(overrides=["env.pixels=32", "env.accept_mismatch=[pixel]"])


def test_a_microscope_set_to_another_orbital_is_refused() -> None:
    microscope = build_microscope(Config())
    microscope.bias = -1.0
    with pytest.raises(ConfigError, match=r"bias: .*-1 V.*accept_mismatch"):
        build_classifier(Config(), microscope)


def test_the_truth_is_never_refused() -> None:
    make_env(overrides=["env.ground_truth=true", "env.image_nm=20", "simulator.molecule=PTCDA"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([], []),  # bias and setpoint then come from the controller
        (["real.imaging.bias_V=1.5", "real.imaging.setpoint_pA=50"], []),
        (["real.imaging.bias_V=-1"], ["bias"]),
        (["real.imaging.setpoint_pA=1000"], ["setpoint"]),
        (["env.image_nm=20"], ["pixel"]),
        (["env.material=Si(111)"], ["material"]),
        (["real.driver=deepspm"], ["real.imaging.bias_V", "real.imaging.setpoint_pA"]),
        (["real.driver=deepspm", "env.accept_mismatch=[bias, setpoint]"], []),
        (["real.driver=deepspm", "real.imaging.bias_V=1", "real.imaging.setpoint_pA=25"], []),
    ],
)
def test_settings_of_a_real_microscope_are_refused_for_what_they_say(
    settings: list[str], words: list[str]
) -> None:
    config = load_config(None, ["run.microscope=real", *settings])
    if not words:
        check_classifier(config)
        return
    with pytest.raises(ConfigError) as caught:
        check_classifier(config)
    assert all(part in str(caught.value) for part in words)


def test_findings_for_a_real_microscope_include_the_origin() -> None:
    config = load_config(None, ["run.microscope=real"])
    assert set(classifier_findings(TRAINED, config, 1.0, 25e-12, "real")) == {"origin"}
    assert not classifier_findings(TRAINED, config, 1.0, 25e-12, "simulated")
    found = classifier_findings(TRAINED, config, math.nan, math.nan, "real")
    assert set(found) == {"origin", "bias", "setpoint"}
    accepting = load_config(None, ["env.accept_mismatch=[origin, bias, setpoint]"])
    assert not classifier_findings(TRAINED, accepting, math.nan, math.nan, "real")


class Flipping(SimulatedMicroscope):
    """Somebody sets another bias or setpoint once it has taken so many images."""

    def __init__(self, after: int, **changes: float) -> None:
        self.left, self.changes = after, changes
        self.acts = 0
        settings = ["simulator.rough_fraction=0", "simulator.tip_change_rate=0",
                    "simulator.contact_loss_rate=0", "simulator.crash_rate=0"]  # fmt: skip
        super().__init__(load_config(None, settings).simulator, seed=5)

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        if self.left == 0:
            for name, value in self.changes.items():
                setattr(self, name, value)
        self.left -= fraction == 1.0
        return super().scan(frame, fraction)

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        self.acts += 1
        super().condition(action, x, y)


CHANGES = [{"bias": -1.0}, {"bias": math.nan}, {"setpoint": 1e-9}]


@pytest.mark.parametrize("changes", CHANGES)
def test_a_step_after_which_the_bias_is_another_ends_before_the_next_act(
    changes: dict[str, float],
) -> None:
    microscope, classifier = Flipping(2, **changes), StubClassifier()
    env = ProbeConditioningEnv(microscope, classifier, Config().env)
    env.reset(seed=None, options={"damage": False})
    env.step(0)
    assert (microscope.acts, classifier.asked) == (1, 2)
    [name] = changes
    with pytest.raises(UnclassifiableImage, match=rf"{name}: .*env\.accept_mismatch: \[{name}\]"):
        env.step(0)
    assert (microscope.acts, classifier.asked) == (2, 2)
    for again in (lambda: env.step(0), lambda: env.reset()):
        with pytest.raises(Exception, match=r"reset|accept_mismatch"):
            again()
    assert (microscope.acts, classifier.asked) == (2, 2)


def test_what_is_accepted_by_name_is_classified() -> None:
    microscope = Flipping(1, bias=-1.0)
    config = Config().env.model_copy(update={"accept_mismatch": ("bias",)})
    env = ProbeConditioningEnv(microscope, StubClassifier(), config)
    env.reset(options={"damage": False})
    env.step(0)
    assert microscope.bias == -1.0


def test_of_environments_in_step_the_one_that_cannot_classifier_fails() -> None:
    envs = make_vector_env(3, overrides=["env.damage=false"])
    envs.reset(seed=0)
    envs.microscopes[1].bias = -1.0
    with pytest.raises(UnclassifiableImage, match=r"bias: .*-1 V") as caught:
        envs.step([0, 0, 0])
    assert "this was environment 1; all that failed: [1]" in caught.value.__notes__[0]


@pytest.mark.parametrize("answer", [math.inf, -math.inf, 1.5])
def test_an_answer_that_is_no_probability_is_not_acted_on(answer: float) -> None:
    microscope = Flipping(99)
    env = ProbeConditioningEnv(microscope, StubClassifier(answer), Config().env)
    with pytest.raises(UnclassifiableImage, match="no probability"):
        env.reset()
    assert microscope.acts == 0


@pytest.mark.parametrize("changes", CHANGES)
def test_a_run_in_which_the_bias_becomes_another_ends_as_a_failure_before_any_act(
    tmp_path: Path, changes: dict[str, float]
) -> None:
    microscope = Flipping(3, **changes)
    with lab(
        tmp_path, StubClassifier(), "operation.condition_after=5", microscope=microscope
    ) as it:
        outcome = it.runner.run()
        [name] = changes
        assert outcome.failed
        assert f"env.accept_mismatch: [{name}]" in outcome.ending
        assert outcome.where == "tip withdrawn"
        assert it.labels() == ["bad probe"] * 3 + ["unusable"]
        assert microscope.acts == 0
        assert not it.rows("SELECT * FROM recoveries")
        assert it.rows("SELECT reason FROM scans WHERE label = 'unusable'") == [("not classified",)]


def test_a_run_in_the_middle_of_conditioning_ends_before_the_next_act(tmp_path: Path) -> None:
    microscope = Flipping(3, bias=-1.0)
    with lab(
        tmp_path, StubClassifier(), "operation.condition_after=1", microscope=microscope
    ) as it:
        assert it.runner.run().failed
        assert microscope.acts == 2 + 1  # on three images that were classified
    again = Flipping(99)
    with lab(tmp_path, StubClassifier(0.95), "operation.scans=6", microscope=again) as it:
        again.bias = 1.0  # set back by hand
        assert it.runner.run().ending == "6 images are taken"
        assert it.rows("SELECT scan_after IS NULL, uncertain FROM steps")[-1] == (0, 0)
        assert it.rows("SELECT outcome FROM episodes") == [("good",)]


def test_images_that_another_bias_makes_look_rough_cost_no_sample(tmp_path: Path) -> None:
    settings = ("simulator.rough_fraction=1",)
    microscope = build_microscope(load_config(None, list(settings)))
    microscope.bias = -1.0
    with lab(tmp_path, StubClassifier(), *settings, microscope=microscope) as it:
        assert it.runner.run().failed
        assert it.labels() == ["unusable"]


def test_a_run_whose_classifier_has_no_answer_ends_as_a_failure(tmp_path: Path) -> None:
    with lab(tmp_path, StubClassifier(math.inf), "operation.condition_after=1") as it:
        outcome = it.runner.run()
        assert outcome.failed
        assert "no probability" in outcome.ending
        assert it.labels() == ["unusable"]
        assert not it.rows("SELECT * FROM acts WHERE act != 'withdraw'")


def test_a_run_whose_agent_has_no_values_ends_before_its_act(tmp_path: Path) -> None:
    with lab(tmp_path, StubClassifier(), "operation.condition_after=1") as it:
        without_values = Decision(0, "agent", (math.nan,) * 12)
        it.policy.choose = lambda *_: without_values  # type: ignore[method-assign]
        outcome = it.runner.run()
        assert outcome.failed
        assert "operation.agent" in outcome.ending
        assert it.visited[-1] is State.STOP
        assert not it.rows("SELECT * FROM acts WHERE act != 'withdraw'")
