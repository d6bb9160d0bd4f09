"""Scans of the virtual controller: module Scan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_gym.instrument.nanonis.commands import commands
from spm_gym.servers.nanonis.acquisition import (
    LARGEST,
    Acquisition,
    Image,
    Raster,
    upside_down,
)
from spm_gym.servers.nanonis.autosave import Recorded, save_scan
from spm_gym.servers.nanonis.bench import Bench, Handler, Refused, coerced, seconds
from spm_gym.servers.nanonis.retrace import retrace
from spm_gym.servers.nanonis.session import SessionFolder
from spm_gym.servers.nanonis.signals import BIAS, CURRENT, NAMES, Signals, Z
from spm_gym.servers.nanonis.z_controller import ZController

_START, _STOP, _PAUSE, _RESUME, _FREEZE, _UNFREEZE, _TO_CENTRE = range(7)
_ALL, _NEXT, _OFF = range(3)
_SMALLEST_FRAME = 5e-11
_SPEEDS = (1e-12, 1e-3)
_TIMES = (1e-5, 1e4)
_RATIOS = (1e-3, 1e3)
_NOISE = 0.01


class Scanning:
    """Scans the frame and keeps the image of the last scan.

    Args:
        bench: Shared by all modules.
        z: The z-controller: without its feedback a scan does not follow the surface.
        session: Folder of saved scans.
        zero_filled: Whether the live buffer holds zeros, not NaN, where nothing was scanned.
    """

    def __init__(
        self, bench: Bench, z: ZController, session: SessionFolder, zero_filled: bool = False
    ) -> None:
        self._zero_filled = zero_filled
        self._bench = bench
        self._z = z
        self._session = session
        self._scan: Acquisition | None = None
        self._active = False
        self._started = self._ended = 0
        self._path = ""
        self.signals: Signals = Signals(bench, z, self.position)

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the module's commands, by name."""
        done = {"timed_out": 0}
        return {
            "Scan.Action": self._action,
            "Scan.StatusGet": lambda: {"running": int(self._is_running())},
            "Scan.WaitEndOfScan": self._wait_for_end,
            "Scan.WaitEndOfLine": self._wait_for_line,
            "Scan.FrameSet": self._set_frame,
            "Scan.BufferSet": self._set_buffer,
            "Scan.PropsGet": self._get_props,
            "Scan.SpeedSet": self._set_speed,
            "Scan.SpeedGet": self._get_speed,
            "Scan.FrameDataGrab": self._grab,
            "Scan.XYPosGet": lambda newest: dict(zip("xy", self.position(), strict=True)),
            "Scan.Save": self._save,
            "Scan.BackgroundPaste": lambda wait, timeout: done,
            "Scan.BackgroundDelete": lambda wait, timeout, which: done,
        }

    @property
    def advancing(self) -> bool:
        """Whether lines are being recorded."""
        return self._active and self._scan is not None and self._scan.paused is None

    def position(self) -> tuple[float, float]:
        """Return the position of the tip, m."""
        if self._active and self._scan:
            return self._scan.position(self._bench.now)
        status = self._bench.microscope.status()
        return status.x, status.y

    def update(self) -> None:
        """Record the lines that are done by now, as the next command may read them."""
        self._catch_up(render_ahead=True)

    def stop(self) -> None:
        """Stop the scan."""
        self._catch_up(render_ahead=False)
        if self._active:
            self._active = False
            self._ended += 1
            self._path = ""

    def pause(self) -> None:
        """Pause the scan, to be resumed."""
        if self._scan and self._active:
            self._scan.pause(self._bench.now)

    @property
    def speed(self) -> float:
        """Forward speed of the tip, m/s."""
        speed = self._bench.settings.of("Scan.Speed")
        if speed["constant"]:
            return float(self._bench.settings.of("Scan.Frame")["width"] / speed["fwd_time"])
        return float(speed["fwd_speed"])

    def _catch_up(self, render_ahead: bool) -> None:
        now = self._bench.now
        while self._scan and self._active:
            if now < self._scan.end:
                self._record(self._scan.due(now), render_ahead)
                return
            self._finish()

    def _is_running(self) -> bool:
        """Check whether a scan runs; a standing clock is set to the end of the scan."""
        if self._scan and self._active and not self._props["continuous"]:
            if self._scan.paused is None:
                self._bench.clock.set_forward(self._scan.end)
            self._finish_if_due()
        return self._active

    def _action(self, action: int, direction: int) -> None:
        if action == _START:
            self.stop()  # clients rely on this: a start during a scan restarts it
            self._begin(self._raster(bool(direction)), self._bench.now)
        elif action == _STOP:
            self.stop()
        elif action in (_PAUSE, _FREEZE):
            self.pause()
        elif action in (_RESUME, _UNFREEZE):
            if self._scan:
                self._scan.resume(self._bench.now)
        elif action != _TO_CENTRE:
            raise Refused(f"there is no scan action {action}; actions go from 0 to {_TO_CENTRE}")
        elif not self._active:
            raster = self._raster(False)
            self._bench.microscope.move_to(raster.x, raster.y)

    def _begin(self, raster: Raster, now: float, before: Image | None = None) -> None:
        self._bench.end_rest()
        self._started += 1
        self._scan = Acquisition(raster, now, self._bench.microscope, self._blind_at(), before)
        self._active = True

    def _blind_at(self) -> float | None:
        return None if self._z.tracking else self._z.z

    def _record(self, lines: int, render_ahead: bool = False) -> None:
        assert self._scan is not None
        self._scan.record(lines, self._blind_at(), render_ahead)

    def _finish_if_due(self) -> None:
        if self._scan and self._active and self._bench.now >= self._scan.end:
            self._finish()

    def _finish(self) -> None:
        """Complete the scan, save it and start the next one, depending on the properties."""
        scan = self._scan
        assert scan is not None
        self._record(scan.raster.lines)
        self._active = False
        self._ended += 1
        self._path = self._autosave()
        if self._props["continuous"]:
            # Whole scans between two commands cannot be read any more: they are skipped.
            missed = math.floor((self._bench.now - scan.end) / scan.raster.duration)
            begin = scan.end + max(missed, 0) * scan.raster.duration
            upward = scan.raster.upward
            raster = self._raster(upward)
            # Bouncing saves the way from the last line back to the first one.
            if self._props["bouncy"]:
                raster = upside_down(raster)
            self._begin(raster, begin, scan.heights())

    def _wait_for_end(self, timeout: int) -> dict[str, Any]:
        ended = self._ended

        def due() -> float | None:
            self._finish_if_due()
            if self._ended != ended or not self._active or self._scan is None:
                return None
            return self._scan.end

        in_time = self._bench.wait(due, seconds(timeout))
        # Clients take an empty path for a scan that was stopped.
        return {"timed_out": int(not in_time), "path": self._path if in_time else ""}

    def _wait_for_line(self, timeout: int) -> dict[str, Any]:
        started = self._started
        line = self._scan.due(self._bench.now) if self._scan else 0

        def due() -> float | None:
            scan = self._scan
            self._finish_if_due()
            if not self._active or scan is None or self._started != started:
                return None
            if scan.due(self._bench.now) > line:
                return None
            return (
                math.inf
                if scan.paused is not None
                else scan.started + (line + 1) * scan.raster.line_time
            )

        in_time = self._bench.wait(due, seconds(timeout))
        done = line + 1 if in_time else line
        return {"timed_out": int(not in_time), "last_line": done, "movement": 0, "pass_number": 1}

    @property
    def _props(self) -> dict[str, Any]:
        return self._bench.settings.of("Scan.Props")

    def _get_props(self) -> dict[str, Any]:
        """Return the properties; no module of this controller adds parameters to a scan file."""
        command = commands(self._bench.release)["Scan.PropsGet"]
        values = self._bench.settings.get(command, {})
        if "module_names" in values:
            modules = len(values["module_names"])
            values["parameters_per_module"] = [0] * modules
            values["parameters"] = np.empty((modules, 0), dtype=object)
        return values

    def _raster(self, upward: bool) -> Raster:
        frame, buffer = (
            self._bench.settings.of("Scan.Frame"),
            self._bench.settings.of("Scan.Buffer"),
        )
        return Raster(
            frame["centre_x"],
            frame["centre_y"],
            frame["width"],
            frame["height"],
            frame["angle"],
            buffer["pixels"],
            buffer["lines"],
            upward,
            self._line_time(frame["width"]),
        )

    def _set_frame(
        self, centre_x: float, centre_y: float, width: float, height: float, angle: float
    ) -> None:
        reach = self._bench.microscope.reach
        frame = self._bench.settings.of("Scan.Frame")
        frame.update(
            centre_x=coerced(centre_x, reach), centre_y=coerced(centre_y, reach), angle=angle
        )
        for name, value in (("width", width), ("height", height)):
            if value > 0:
                frame[name] = max(coerced(value, 2 * reach), _SMALLEST_FRAME)

    def _set_buffer(self, channel_indexes: Any, pixels: int, lines: int) -> None:
        # A channel that is named twice is recorded once.
        channels = list(dict.fromkeys(int(index) for index in channel_indexes))
        for channel in channels:
            self.signals.rt_index(channel)
        buffer, frame = (
            self._bench.settings.of("Scan.Buffer"),
            self._bench.settings.of("Scan.Frame"),
        )
        # Controllers round the pixels to a multiple of 16; 0 lines keep the aspect of the frame.
        pixels = min(max(16 * round(pixels / 16), 16), LARGEST) if pixels > 0 else buffer["pixels"]
        if lines <= 0:
            lines = round(pixels * frame["height"] / frame["width"])
        lines = min(max(lines, 1), LARGEST)
        buffer.update(channel_indexes=channels, pixels=pixels, lines=lines)

    def _set_speed(
        self,
        fwd_speed: float,
        bwd_speed: float,
        fwd_time: float,
        bwd_time: float,
        constant: int,
        speed_ratio: float,
    ) -> None:
        """Set what is possible; the backward speed follows from the ratio alone."""
        speed = self._bench.settings.of("Scan.Speed")
        if constant in (1, 2):  # 0 is no change, and some clients send 0xFFFF
            speed["constant"] = constant - 1
        for name, value, (least, most) in (
            ("fwd_speed", fwd_speed, _SPEEDS),
            ("fwd_time", fwd_time, _TIMES),
            ("speed_ratio", speed_ratio, _RATIOS),
        ):
            if value > 0:
                speed[name] = min(max(value, least), most)

    def _get_speed(self) -> dict[str, Any]:
        speed = self._bench.settings.of("Scan.Speed")
        width, ratio = self._bench.settings.of("Scan.Frame")["width"], speed["speed_ratio"]
        forward = self.speed
        return {
            "fwd_speed": forward,
            "bwd_speed": forward * ratio,
            "fwd_time": width / forward,
            "bwd_time": width / (forward * ratio),
            "constant": speed["constant"],
            "speed_ratio": ratio,
        }

    def _line_time(self, width: float) -> float:
        ratio: float = self._bench.settings.of("Scan.Speed")["speed_ratio"]
        return width / self.speed + width / (self.speed * ratio)

    def _grab(self, channel_index: int, direction: int) -> dict[str, Any]:
        channels = self._bench.settings.of("Scan.Buffer")["channel_indexes"]
        if channel_index not in channels:
            raise Refused(f"channel #{channel_index} is not part of the acquired selection")
        signal = self.signals.rt_index(channel_index)
        data = self._image(signal, bool(direction))
        # A trap for drivers: zeros are heights, and a partial scan then ends in a deep step.
        if self._zero_filled:
            data = np.nan_to_num(data, nan=0.0)
        return {
            "channel_name": NAMES[signal],
            "data": data,
            "scan_direction": int(self._scan.raster.upward) if self._scan else 0,
        }

    def _image(self, signal: int, forward: bool) -> Image:
        """Return the image of a signal; forward and backward have the same orientation."""
        if self._scan is None:
            buffer = self._bench.settings.of("Scan.Buffer")
            return np.full((buffer["lines"], buffer["pixels"]), np.nan, dtype=np.float32)
        z = self._scan.heights()
        # From a generator of its own: the noise of an image is the same at every read, and reading
        # it does not change later images.
        rng = np.random.default_rng([self._started, signal, forward])
        if signal == Z:
            return z if forward else self._retraced(z, rng)
        values = self._level(signal, z) * (
            1 + _NOISE * rng.standard_normal(z.shape, dtype=np.float32)
        )
        return np.where(np.isnan(z), np.float32(np.nan), values).astype(np.float32)

    def _retraced(self, z: Image, rng: np.random.Generator) -> Image:
        assert self._scan is not None
        config = self._bench.microscope.config
        back = retrace(
            z, self._scan.unstable, config.hysteresis_fraction, config.white_noise_pm * 1e-12, rng
        )
        return np.where(self._scan.blind()[:, None], z, back)

    def _level(self, signal: int, z: Image) -> NDArray[np.float64]:
        scan = self._scan
        assert scan is not None
        if signal == BIAS:
            return np.full(z.shape, scan.bias)
        if signal != CURRENT:
            return np.full(z.shape, 1e-3 * scan.setpoint)
        # With the piezo at its upper end the tip touches the surface; at its lower end it is lost.
        low, high = self._bench.microscope.z_range
        current = np.full(z.shape, abs(scan.setpoint))
        largest = self._bench.microscope.largest_current
        current[z >= high - _NOISE * (high - low)] = largest
        current[z <= low + _NOISE * (high - low)] = 0.0
        current[scan.blind()] = 0.0
        return np.asarray(np.copysign(current, scan.bias))

    def _autosave(self) -> str:
        mode = self._props["autosave"]
        if mode == _NEXT:  # only this scan is saved, and not the ones after it
            self._props["autosave"] = _OFF
        return "" if mode == _OFF else self._write()

    def _save(self, wait: int, timeout: int) -> dict[str, Any]:
        if self._scan is None:
            raise Refused("there is no scan to save")
        self.update()
        self._write()
        return {"timed_out": 0}

    def _write(self) -> str:
        assert self._scan is not None
        channels = self._bench.settings.of("Scan.Buffer")["channel_indexes"]
        images = {
            signal: (self._image(signal, True), self._image(signal, False))
            for signal in map(self.signals.rt_index, channels)
        }
        ratio = self._bench.settings.of("Scan.Speed")["speed_ratio"]
        recorded = Recorded(self._scan, images, self._z.loop, ratio, self._props)
        return save_scan(self._session.path, recorded)
