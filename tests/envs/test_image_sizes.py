"""Images of other sizes: what the networks get of them, and what stays that of the whole image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from agents.classifier import ProbeClassifier
from spm_gym.analysis.scan_findings import ScanClassifier, Subject, examine
from spm_gym.assembly.environment import make_env, make_vector_env
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import Config, EnvConfig, SimulatorConfig
from spm_gym.envs.observation import (
    ProcessedScan,
    allowed_actions,
    process_scan,
    process_scans,
    whole_image,
)
from spm_gym.envs.task_state import StateError
from spm_gym.imaging import Diagnosis, readings_of
from spm_gym.imaging.fitting import fitted
from spm_gym.imaging.observed import read_observed
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.instrument.sim.dynamics import CLASS_NAMES
from spm_gym.instrument.sim.images import sessions, take
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.plain_state import from_bytes, to_bytes
from spm_gym.scale import NM
from spm_gym.types import Frame, Scan
from tests.support.trajectories import equal, play

SIZES = [(128, 10.0), (256, 10.0), (96, 10.0), (128, 20.0), (256, 20.0)]
CALM = SimulatorConfig(tip_change_rate=0, contact_loss_rate=0, crash_rate=0, rough_fraction=0)
STILL = CALM.model_copy(
    update=dict.fromkeys(
        ("white_noise_pm", "line_noise_pm", "drift_pm_per_s", "hysteresis_fraction",
         "creep_fraction"), 0.0,
    )
)  # fmt: skip
UNDAMAGED = {"damage": False}
SHARP_UNSTABLE = CLASS_NAMES.index("sharp unstable")


@pytest.fixture(scope="module")
def classifier() -> ProbeClassifier:
    return ProbeClassifier.load(shipped_classifier())


def bad(images: np.ndarray) -> np.ndarray:
    """A classifier that does not mind images without any noise."""
    return np.zeros(len(images), np.float32)


def env_of(pixels: int = 64, image_nm: float = 10.0, **settings: Any) -> EnvConfig:
    return EnvConfig(pixels=pixels, image_nm=image_nm, **settings)


def settings(pixels: int, image_nm: float, *more: str) -> list[str]:
    return [f"env.pixels={pixels}", f"env.image_nm={image_nm}", *more]


def scans_of_known_probes(pixels: int, image_nm: float) -> tuple[list[Scan], np.ndarray]:
    """Images of sixty good probes and five of each kind of bad ones."""
    states = np.array([0] * 60 + list(range(1, 16)) * 5)
    frame, found = Frame(0, 0, image_nm * NM, pixels), []
    order = []
    for session in sessions(len(states), 5, states):
        images = take(session, CALM, image_nm, pixels)
        found += [Scan(frame, z, images.z_range) for z in images.z]
        order += session.states.tolist()
    return found, np.array(order) == 0


def share_right(pixels: int, image_nm: float, classifier: ProbeClassifier) -> float:
    env = fitted(env_of(pixels, image_nm), classifier)
    scans, good = scans_of_known_probes(pixels, image_nm)
    outcomes = process_scans(scans, [classifier] * len(scans), env)
    called = [isinstance(each, ProcessedScan) and each.probability > 0.9 for each in outcomes]
    return float(np.mean(np.array(called) == good))


@pytest.fixture(scope="module")
def usual(classifier: ProbeClassifier) -> float:
    """The share that is right in images of the trained size."""
    return share_right(64, 10.0, classifier)


def scanned(frame: Frame, seed: int, world: SimulatorConfig = CALM) -> Scan:
    """A scan by a good tip; the same seed gives the same sample."""
    return SimulatedMicroscope(world, seed=seed).scan(frame)


@pytest.mark.parametrize(("pixels", "image_nm"), SIZES)
def test_probes_are_classified_as_well_as_in_images_of_the_trained_size(
    pixels: int, image_nm: float, classifier: ProbeClassifier, usual: float
) -> None:
    assert usual > 0.95
    assert share_right(pixels, image_nm, classifier) >= usual - 0.03


@pytest.mark.parametrize("pixels", [128, 256, 96])
def test_clean_square_mask_and_place_are_those_of_the_trained_size(
    pixels: int, classifier: ProbeClassifier
) -> None:
    few, many = env_of(), fitted(env_of(pixels), classifier)
    pixel = 10 / 64 * NM * (1 + 1e-6)
    for seed in range(12):
        place = {"x": 20 * seed * NM, "y": 5 * NM, "size": 10 * NM}
        usual = process_scan(scanned(Frame(**place, pixels=64), seed, STILL), bad, few)
        other = process_scan(scanned(Frame(**place, pixels=pixels), seed, STILL), bad, many)
        assert other.clean_side == pytest.approx(usual.clean_side, abs=pixel)
        assert other.place == pytest.approx(usual.place, abs=pixel)
        bounds = [allowed_actions(few, usual.clean_side + change) for change in (-pixel, pixel)]
        assert (bounds[0] <= other.mask).all()
        assert (other.mask <= bounds[1]).all()


def test_an_unstable_tip_does_not_hide_the_clean_ground(classifier: ProbeClassifier) -> None:
    found, as_they_are = [], []
    for session in sessions(16, 5, np.full(16, SHARP_UNSTABLE)):
        images = take(session, CALM, 10.0, 256)
        scans = [Scan(Frame(0, 0, 10 * NM, 256), z, images.z_range) for z in images.z]
        squares = read_observed(scans, fitted(env_of(256), classifier)).squares
        found += [square.side for square in squares]
        as_they_are += [square.side for square in readings_of(scans).squares]
    assert np.mean(found) * 10 / 256 > 2.5
    assert np.mean(found) > 2 * np.mean(as_they_are)


@pytest.mark.parametrize(("pixels", "image_nm"), SIZES)
def test_observations_have_the_trained_size_and_squares_are_of_the_whole_image(
    pixels: int, image_nm: float
) -> None:
    env = make_env(overrides=settings(pixels, image_nm))
    assert env.observation_space.shape == (1, 64, 64)
    beyond = False
    for step in play(env, 7, 8):
        assert step["observation"] in env.observation_space
    assert env.processed is not None
    frame = env.processed.scan.frame
    assert (frame.pixels, frame.size) == (pixels, pytest.approx(image_nm * NM))
    for seed in range(6):
        env.reset(seed=seed, options=UNDAMAGED)
        processed = env.processed
        square = processed.square
        assert min(square.row, square.col) >= 0
        assert max(square.row, square.col) + square.side <= pixels
        place = np.subtract(processed.place, (processed.scan.frame.x, processed.scan.frame.y))
        assert np.abs(place).max() <= image_nm / 2 * NM
        beyond |= bool(np.abs(place).max() > 5 * NM)
        assert whole_image(processed, env.config).shape == (pixels, pixels)
    assert beyond == (image_nm == 20)


@pytest.mark.parametrize("more", [[], ["env.preview_lines=16"]])
def test_the_vector_environment_gives_the_same(more: list[str]) -> None:
    given = settings(256, 20.0, *more)
    envs = make_vector_env(2, overrides=given)
    observations, infos = envs.reset(seed=4)
    assert observations.shape == (2, 1, 64, 64)
    for number in range(2):
        single, info = make_env(overrides=given).reset(seed=4 + number)
        assert np.array_equal(observations[number], single)
        assert infos["clean_side"][number] == info["clean_side"]


def test_images_of_the_trained_size_are_read_as_they_are(classifier: ProbeClassifier) -> None:
    env = env_of()
    assert fitted(env, classifier) == env
    scans = [scanned(Frame(0, 0, 10 * NM, 64), seed) for seed in range(3)]
    ours, plain = read_observed(scans, env), readings_of(scans, *Preprocessing.of(env))
    assert np.array_equal(ours.observations, plain.observations)
    assert (ours.diagnoses, ours.squares) == (plain.diagnoses, plain.squares)


@pytest.mark.parametrize(("pixels", "image_nm"), SIZES)
def test_show_says_of_an_image_what_the_environment_says(
    pixels: int, image_nm: float, classifier: ProbeClassifier
) -> None:
    env = fitted(env_of(pixels, image_nm), classifier)
    of_show = ScanClassifier(classifier, classifier.pixels, classifier.height_scale)
    for seed in range(4):
        scan = scanned(Frame(0, 0, image_nm * NM, pixels), seed)
        size = scan.frame.size
        findings = examine(Subject("any", scan.z, size, size, scan.z_range), of_show, EnvConfig())
        processed = process_scan(scan, classifier, env)
        assert findings.probability == pytest.approx(processed.probability, abs=1e-3, nan_ok=True)
        assert "Mind" not in " ".join(findings.remarks)
        assert ("middle 10 nm" in findings.remarks[0]) == (image_nm == 20)


def test_a_fault_in_the_observed_middle_alone_is_a_fault(classifier: ProbeClassifier) -> None:
    env = fitted(env_of(256, 20.0), classifier)
    scan = scanned(Frame(0, 0, 20 * NM, 256), 1)
    debris = scan.z.copy()
    # On 1.2 % of the image, which is 5 % of its middle.
    debris[114:142, 114:142] += NM * np.repeat(
        np.random.default_rng(1).uniform(-2, 2, (14, 28)), 2, 0
    )
    faulty = Scan(scan.frame, debris, scan.z_range)
    assert readings_of([faulty]).diagnoses == (Diagnosis.FINE,)
    assert read_observed([scan], env).diagnoses == (Diagnosis.FINE,)
    assert read_observed([faulty], env).diagnoses == (Diagnosis.ROUGH,)


def test_scans_of_other_pixels_are_not_read_as_if_they_had_those_of_the_settings(
    classifier: ProbeClassifier,
) -> None:
    env = fitted(env_of(128), classifier)
    with pytest.raises(ValueError, match=r"env.pixels = 128 .*64"):
        process_scan(scanned(Frame(0, 0, 10 * NM, 64), 1), bad, env)


def test_previews_give_what_those_of_the_trained_size_give(classifier: ProbeClassifier) -> None:
    few = env_of(preview_lines=16)
    for pixels, image_nm in [(128, 10.0), (256, 10.0), (256, 20.0)]:
        # Of a larger area so many lines that as many cross the middle.
        lines = round(16 * image_nm / 10)
        many = fitted(env_of(pixels, image_nm, preview_lines=lines), classifier)
        for seed in range(4):
            usual = scanned(Frame(0, 0, 10 * NM, 64, lines=16), seed)
            other = scanned(Frame(0, 0, image_nm * NM, pixels, lines=lines), seed)
            one, two = (
                read_observed([scan], env).observations[0, 0]
                for scan, env in ((usual, few), (other, many))
            )
            assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.9


def test_an_episode_goes_on_with_a_kept_state() -> None:
    given = settings(128, 20.0)
    env, other = make_env(overrides=given), make_env(overrides=given)
    env.reset(seed=3)
    other.set_state(from_bytes(to_bytes(env.get_state())))
    ahead, behind = env.step(1), other.step(1)
    assert np.array_equal(ahead[0], behind[0])
    assert ahead[1:4] == behind[1:4]
    with pytest.raises(StateError, match="other sizes"):
        make_env(overrides=settings(64, 10.0)).set_state(env.get_state())


def test_the_environment_passes_the_checker_of_gymnasium() -> None:
    env = make_env(overrides=settings(128, 20.0), render_mode="rgb_array")
    check_env(env, skip_render_check=True)
    env.reset(seed=0)
    drawn = env.render()
    assert drawn is not None
    assert drawn.shape[2] == 3


def test_the_truth_has_images_as_they_come_unless_the_settings_say_otherwise() -> None:
    truth = ["env.ground_truth=true"]
    assert make_env(overrides=settings(128, 10.0, *truth)).observation_space.shape[1:] == (128, 128)
    few = settings(128, 20.0, *truth, "env.observation_pixels=32", "env.observation_nm=10")
    observation, _ = make_env(overrides=few).reset(seed=1)
    assert observation.shape == (1, 32, 32)
    assert equal({"a": observation}, {"a": make_env(overrides=few).reset(seed=1)[0]})
    assert Config().env.observed == (64, 64)
