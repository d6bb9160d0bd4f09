"""Simulated images, processed as the environment processes its scans."""

from __future__ import annotations

import numpy as np

from spm_gym.config import Config
from spm_gym.imaging import Readings, read_scans
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.instrument.sim.images import ImagingSession, take


def read_session(session: ImagingSession, config: Config) -> Readings:
    """Take the images of a session and process them as the environment does.

    Args:
        session: Classes of the probes and seeds.
        config: Settings of simulator and environment.
    """
    images = take(session, config.simulator, config.env.image_nm, config.env.pixels)
    ranges = np.tile(images.z_range, (len(images.z), 1))
    method, scale = Preprocessing.of(config.env)
    return read_scans(images.z, ranges, method, session.line_steps.tolist(), scale)
