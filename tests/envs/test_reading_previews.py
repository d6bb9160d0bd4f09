"""Sixteen lines over the whole frame are diagnosed, levelled and searched as sixty-four are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spm_gym.config import EnvConfig, SimulatorConfig
from spm_gym.envs.observation import ProcessedScan, process_scans
from spm_gym.imaging import Diagnosis, clean_pixels, level
from spm_gym.instrument.sim.dynamics import STATES, HiddenState
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Frame, Scan
from tests.support.scripted_runs import Verdicts

NM = 1e-9
FULL = Frame(0.0, 0.0, 10 * NM, 64)
CONFIG = EnvConfig()


def microscope(seed: int = 4, **changes: Any) -> SimulatedMicroscope:
    events = ("tip_change_rate", "contact_loss_rate", "crash_rate")
    calm = {**dict.fromkeys(events, 0.0), "rough_fraction": 0.0, **changes}
    return SimulatedMicroscope(SimulatorConfig(**calm), seed=seed)


def read(*scans: Scan) -> list[Any]:
    return list(process_scans(scans, [Verdicts(0.5)] * len(scans), CONFIG))


def both(
    here: SimulatedMicroscope, rng: np.random.Generator, lines: int, classes: int = STATES
) -> tuple[Scan, Scan]:
    """A full scan and a preview of a random place by a probe of one of so many classes."""
    here.set_probe(HiddenState.of(int(rng.integers(classes))))
    x, y = rng.uniform(-400, 400, 2) * NM
    full = replace(FULL, x=x, y=y)
    here.move_to(x, y)
    here.wait(30)
    return here.scan(full), here.scan(replace(full, lines=lines))


@pytest.mark.parametrize("lines", [8, 16, 32])
def test_a_clean_sample_is_fine_in_every_preview(lines: int) -> None:
    here, rng = microscope(), np.random.default_rng(0)
    previews = [both(here, rng, lines)[1] for _ in range(60)]
    assert all(isinstance(outcome, ProcessedScan) for outcome in read(*previews))


def test_a_rough_sample_is_rough_in_nine_of_ten_previews_and_fine_ones_are_not() -> None:
    here, rng = microscope(rough_fraction=0.5), np.random.default_rng(0)
    scans = [both(here, rng, 16) for _ in range(150)]
    full, preview = (
        np.array([outcome is Diagnosis.ROUGH for outcome in read(*each)])
        for each in zip(*scans, strict=True)
    )
    # The edge of a patch may lie between two lines.
    assert full.sum() > 40
    assert preview[full].mean() > 0.8
    assert preview[~full].mean() < 0.15


@pytest.mark.parametrize(
    ("accident", "diagnosis"),
    [("lost contact", Diagnosis.LOST_CONTACT), ("crash", Diagnosis.CRASH)],
)
@pytest.mark.parametrize("line", [0, 8, 14])
def test_accidents_are_found(accident: Any, diagnosis: Diagnosis, line: int) -> None:
    here = microscope()
    running = here.begin_scan(replace(FULL, lines=16))
    running.advance(line)
    here.inject(accident)
    running.advance(16)
    assert read(running.scan()) == [diagnosis]


def test_only_the_last_line_of_sixteen_may_be_missing() -> None:
    here, preview = microscope(), replace(FULL, lines=16)
    found = read(*(here.scan(preview, lines / 16) for lines in range(17)))
    assert found[:15] == [Diagnosis.PARTIAL] * 15
    assert all(isinstance(outcome, ProcessedScan) for outcome in found[15:])
    # Beside one in the middle nothing is known of seven rows.
    z = here.scan(preview).z.copy()
    z[7] = np.nan
    assert read(Scan(preview, z, here.z_range)) == [Diagnosis.PARTIAL]


# Found on 1,200 places at 2 and 5 pm: of stable probes 0.81 to 0.90 of the masks are alike, and
# 0.97 to 0.99 of the pixels of a preview's square are clean in the image, too; the bounds leave
# room for what 150 places differ. An unstable probe cuts squares up by its jumps, and in a quarter
# of the lines it jumps a quarter as often: there previews rightly show more of the clean ground.
@pytest.mark.parametrize("white_noise_pm", [2.0, 5.0])
def test_what_is_clean_and_allowed_is_nearly_that_of_the_image(white_noise_pm: float) -> None:
    here, rng = microscope(white_noise_pm=white_noise_pm), np.random.default_rng(2)
    found: dict[bool, list[tuple[float, ...]]] = {True: [], False: []}
    for _ in range(300):
        whole, thin = both(here, rng, 16)
        image, preview = read(whole, thin)
        row, col, side = preview.square
        clean = clean_pixels(level(whole.z))[row : row + side, col : col + side]
        found[here.truth.unstable].append((
            np.array_equal(image.mask, preview.mask),
            np.abs(image.observation - preview.observation).mean(),
            clean.mean() if side else 1.0,
            image.square.side,
            side,
        ))  # fmt: skip
    alike, apart, clean_share, image_side, preview_side = np.mean(found[False], axis=0)
    assert alike > 0.7
    assert apart < 0.15
    assert clean_share > 0.93
    assert 0.9 < preview_side / image_side < 1.15
    assert np.less(*np.mean(found[True], axis=0)[3:])


def test_the_place_of_an_action_is_that_of_the_image() -> None:
    # A wall from the middle upwards, on a rotated frame: the clean square is the lower half.
    frame = Frame(3 * NM, -2 * NM, 10 * NM, 64, angle=0.4)
    z = np.random.default_rng(0).normal(0, 1e-12, (64, 64)).astype(np.float32)
    z[:32] += np.float32(2e-10)
    preview = replace(frame, lines=16)
    image, thin = read(Scan(frame, z, (-1e-7, 1e-7)), Scan(preview, z[preview.rows], (-1e-7, 1e-7)))
    assert image.clean_side == pytest.approx(5 * NM)
    # The wall begins somewhere between two lines.
    apart = preview.line_step * frame.pixel
    assert thin.clean_side == pytest.approx(image.clean_side, abs=apart)
    assert thin.place == pytest.approx(image.place, abs=apart)
    assert thin.place == frame.position(*thin.square.centre)


def test_a_batch_of_images_and_previews_is_read_as_each_of_them() -> None:
    here, rng = microscope(rough_fraction=0.3), np.random.default_rng(1)
    scans = [scan for _ in range(12) for scan in both(here, rng, 16)]
    for together, [alone] in zip(read(*scans), map(read, scans), strict=True):
        if isinstance(alone, ProcessedScan):
            assert together.observation.tobytes() == alone.observation.tobytes()
            assert (together.square, together.place) == (alone.square, alone.place)
        else:
            assert together is alone
