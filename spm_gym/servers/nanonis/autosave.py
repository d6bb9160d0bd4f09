"""Files of finished scans, named and numbered as by a real controller."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from spm_gym.servers.nanonis.acquisition import Acquisition, Image
from spm_gym.servers.nanonis.session import plain_name
from spm_gym.servers.nanonis.signals import NAMES
from spm_gym.servers.nanonis.sxm import SxmChannel, SxmFeedback, SxmHeader, write_sxm

_TIME_CODE = re.compile("%[aAbBcdHIjmMpSUwWxXyYzZ%]")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recorded:
    """Scan to save.

    Attributes:
        scan: The scan.
        images: Forward and backward image of each signal, by its index.
        feedback: Whether the z-controller was on.
        speed_ratio: Ratio of the backward to the forward speed.
        properties: Name of the series and comment.
    """

    scan: Acquisition
    images: Mapping[int, tuple[Image, Image]]
    feedback: bool
    speed_ratio: float
    properties: Mapping[str, Any]


def save_scan(folder: Path, recorded: Recorded) -> str:
    """Write a scan into the session's folder.

    Returns:
        The path of the file; empty if it could not be written.
    """
    name = plain_name(dated(recorded.properties["series_name"], datetime.now()))
    channels = [
        SxmChannel(*_name_and_unit(signal), forward, backward, index=signal)
        for signal, (forward, backward) in recorded.images.items()
    ]
    if not channels:
        _LOG.warning("the scan was not saved: no channels are recorded")
        return ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = _next(folder, name)
        write_sxm(path, _header(recorded), channels)
    except OSError as error:
        # A full disk ends no scan on a real controller either: the image stays in the buffer.
        _LOG.warning("the scan could not be saved: %s", error)
        return ""
    return str(path)


def dated(series: str, now: datetime) -> str:
    """Replace the time codes in a series name, as the controller's software does."""
    return _TIME_CODE.sub(lambda code: now.strftime(code[0]), series)


def _next(folder: Path, name: str) -> Path:
    # The controller counts in four digits and never overwrites a file.
    number = 1
    while (path := folder / f"{name}{number:04d}.sxm").exists():
        number += 1
    return path


def _name_and_unit(signal: int) -> tuple[str, str]:
    name, _, unit = NAMES[signal].rpartition(" (")
    return name, unit.rstrip(")")


def _header(recorded: Recorded) -> SxmHeader:
    scan, raster = recorded.scan, recorded.scan.raster
    forward = raster.line_time * recorded.speed_ratio / (1 + recorded.speed_ratio)
    return SxmHeader(
        center=(raster.x, raster.y),
        size=(raster.width, raster.height),
        bias=scan.bias,
        feedback=SxmFeedback(scan.setpoint, recorded.feedback),
        started=datetime.now() - timedelta(seconds=min(raster.duration, 1e6)),
        duration=raster.duration,
        line_times=(forward, raster.line_time - forward),
        angle=raster.angle,
        upward=raster.upward,
        comment=recorded.properties["comment"],
        modules={"Scan>series name": recorded.properties["series_name"]},
    )
