"""Scans of a Nanonis controller: frame, buffer, speed, waiting, data."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import RealConfig
from spm_gym.errors import (
    Aborted,
    BadReply,
    CommandFailed,
    InstrumentError,
    TimedOut,
)
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.instrument.nanonis.reading import (
    height_channel,
    out_of_reach,
    read_bias,
    read_numbers,
    read_setpoint,
    read_z,
    retracted,
)
from spm_gym.instrument.nanonis.settings import properties_to_set
from spm_gym.instrument.unscanned import unscanned_as_nan
from spm_gym.scale import NM
from spm_gym.types import Frame, Scan

DOWN = 0
_FORWARD = 1
_START, _STOP = 0, 1
_PATIENCE = 1.5
_ASK_EVERY_S = 1.0
_POLL_S = 30.0
_SLOWEST_RETRACE = 1e-3
"""Ratio of speeds; less or more is no ratio that anybody scans with."""


def stop_scan(controller: Controller) -> None:
    """Stop whatever is being scanned; legal when nothing is."""
    controller.call("Scan.Action", action=_STOP, direction=DOWN)


class Scanner:
    """Scans frames downwards and reads them in forward direction.

    What no document tells about the order of rows and columns in the other directions does not
    matter so.

    Args:
        controller: Carries out the commands.
        config: The settings of the real microscope.
        abort: Is asked every second whether to stop the scan.
    """

    def __init__(
        self,
        controller: Controller,
        config: RealConfig,
        abort: Callable[[], bool],
    ) -> None:
        self._controller = controller
        self._config = config
        self._abort = abort
        self._prepared: tuple[float, tuple[int, int]] | None = None
        self._line_time = self._speed = 0.0
        self._frame: tuple[float, ...] = ()
        self._channels: list[int] = []

    def prepare(self, comment: str) -> None:
        """Find the height signal; have finished scans neither repeated nor saved unasked.

        Args:
            comment: Of the scans.

        Raises:
            InstrumentError: There is no such signal.
        """
        call = self._controller.call
        self._channel = height_channel(self._controller, self._config.nanonis.channel)
        # Added to the operator's channels, which he may want in the files that are saved.
        recorded = (int(index) for index in call("Scan.BufferGet")["channel_indexes"])
        self._channels = sorted({*recorded, self._channel})
        autosave = 1 if self._config.nanonis.autosave else 3
        changes = properties_to_set(
            self._controller.release, call("Scan.PropsGet"), comment=comment,
            continuous=2, bouncy=2, autosave=autosave,
        )  # fmt: skip
        call("Scan.PropsSet", **changes)
        self.forget()

    def forget(self) -> None:
        """Set buffer and speed again before the next scan: somebody may have changed them."""
        self._prepared = None

    @property
    def in_force(self) -> tuple[tuple[float, ...], float]:
        """Frame (m, degrees) and speed (m/s) as the controller has taken them."""
        return self._frame, self._speed

    def scan(self, frame: Frame, fraction: float, z_range: tuple[float, float]) -> Scan:
        """Record the first ``fraction`` of the lines of a frame.

        A long scan is stopped when the z piezo has come to an end of its range meanwhile; the
        image shows what there is.

        Raises:
            TimedOut: The scan did not end in time; it was stopped.
            Aborted: It was stopped on request.
            InstrumentError: The controller does not scan such a frame, or any other failure.
        """
        prepared = frame.size, frame.shape
        if self._prepared != prepared:
            self._set_buffer(frame)
        # The frame goes first: a controller may keep the time of a line when the size changes.
        self._set_frame(frame)
        if self._prepared != prepared:
            self._set_speed(frame.size)
            self._prepared = prepared
        started = time.time()
        lines = math.ceil(fraction * frame.lines)
        self._record(lines, lines == frame.lines, z_range)
        z = np.full(frame.shape, np.nan, dtype=np.float32)
        if lines:
            z[:lines] = self._grab(frame.shape)[:lines]
        bias, setpoint = read_bias(self._controller), read_setpoint(self._controller)
        return Scan(frame, z, z_range, bias, setpoint, started)

    def _set_buffer(self, frame: Frame) -> None:
        call = self._controller.call
        # The height of the scan frame stays, so that fewer lines lie further apart.
        lines, pixels = frame.shape
        call("Scan.BufferSet", channel_indexes=self._channels, pixels=pixels, lines=lines)
        buffer = call("Scan.BufferGet")
        # Pixels are made a multiple of 16 without a word (protocol document, Scan.BufferSet).
        if (buffer["lines"], buffer["pixels"]) != (lines, pixels):
            raise InstrumentError(
                f"the controller scans {buffer['lines']} lines of {buffer['pixels']} pixels "
                f"instead of {lines} of {pixels}: choose a multiple of 16 for the pixels"
            )

    def _set_speed(self, size: float) -> None:
        call = self._controller.call
        speed = self._config.imaging.speed_nm_per_s * NM
        call(
            "Scan.SpeedSet", fwd_speed=speed, bwd_speed=speed, fwd_time=size / speed,
            bwd_time=size / speed, constant=1, speed_ratio=1.0,
        )  # fmt: skip
        taken, ratio = read_numbers(self._controller, "Scan.SpeedGet", "fwd_speed", "speed_ratio")
        if not math.isclose(taken, speed, rel_tol=1e-3):
            raise InstrumentError(
                f"setting real.imaging.speed_nm_per_s: the controller scans at "
                f"{taken / NM:.4g} nm/s instead of {speed / NM:.4g}"
            )
        if not _SLOWEST_RETRACE <= ratio <= 1 / _SLOWEST_RETRACE:
            raise CommandFailed(f"Scan.SpeedGet: a ratio of backward to forward speed of {ratio:g}")
        self._line_time = size / taken * (1 + 1 / ratio)
        self._speed = taken

    def _set_frame(self, frame: Frame) -> None:
        required: dict[str, Any] = {
            "centre_x": frame.x, "centre_y": frame.y, "width": frame.size, "height": frame.size,
            "angle": -math.degrees(frame.angle),  # the controller counts clockwise
        }  # fmt: skip
        self._controller.call("Scan.FrameSet", **required)
        taken = tuple(read_numbers(self._controller, "Scan.FrameGet", *required))
        self._frame = taken
        for (name, value), made in zip(required.items(), taken, strict=True):
            tolerance = 1e-3 if name == "angle" else 1e-3 * frame.pixel
            if not math.isclose(made, value, rel_tol=1e-6, abs_tol=tolerance):
                raise InstrumentError(
                    f"the controller made the scan frame's {name} {made:.6g} of "
                    f"{value:.6g}: the frame does not fit into its range"
                )

    def _record(self, lines: int, whole: bool, z_range: tuple[float, float]) -> None:
        """Scan so many lines from the top, the whole frame or less, and stop."""
        seconds = lines * self._line_time
        if whole:
            seconds = _PATIENCE * seconds + self._config.nanonis.timeout_s
        # Downwards and forward data: the only direction whose row order nobody disputes.
        self._controller.call("Scan.Action", action=_START, direction=DOWN)
        ended = lines > 0 and self._await_end(seconds, z_range)
        if not ended:
            stop_scan(self._controller)
            if whole and not self._off_the_surface(z_range):
                raise TimedOut(f"the scan was not finished after {seconds:.0f} s; it was stopped")

    def _await_end(self, seconds: float, z_range: tuple[float, float]) -> bool:
        """Wait so long, with a look at the tip now and then; whether the scan came to its end."""
        read_at = seconds - _POLL_S
        # In short waits, since this connection serves nothing else meanwhile.
        while seconds > 0:
            if self._abort():
                stop_scan(self._controller)
                raise Aborted("the scan was stopped: the run is asked for something else")
            takes = min(seconds, _ASK_EVERY_S)
            seconds -= takes
            waited = self._controller.call(
                "Scan.WaitEndOfScan", takes=takes, timeout=math.ceil(takes * 1e3)
            )
            if not waited["timed_out"]:
                return True
            if 0 < seconds <= read_at:
                read_at -= _POLL_S
                if self._off_the_surface(z_range):
                    return False
        return False

    def _off_the_surface(self, z_range: tuple[float, float]) -> bool:
        """Whether the z piezo is at an end of its range, where an image shows nothing."""
        z = read_z(self._controller)
        return retracted(z, z_range) or out_of_reach(z, z_range)

    def _grab(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        grabbed = self._controller.call(
            "Scan.FrameDataGrab", channel_index=self._channel, direction=_FORWARD
        )
        data: NDArray[np.float32] = grabbed["data"].astype(np.float32)
        name = grabbed["channel_name"]
        # The index counts differently in other releases: the name tells what was really grabbed.
        if name != self._config.nanonis.channel or data.shape != shape:
            raise BadReply(
                f"Scan.FrameDataGrab: {data.shape} pixels of {name!r} instead of "
                f"{shape} of {self._config.nanonis.channel!r}"
            )
        if grabbed["scan_direction"] != DOWN:
            raise BadReply("Scan.FrameDataGrab: an image scanned upwards; somebody else scans")
        return unscanned_as_nan(data)
