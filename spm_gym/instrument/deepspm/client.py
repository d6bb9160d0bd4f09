"""A microscope behind the LabVIEW server of DeepSPM, as an `Instrument`."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from spm_gym.errors import CommandFailed, LimitExceeded
from spm_gym.instrument.deepspm.line import Line, Timeouts
from spm_gym.instrument.deepspm.protocol import (
    PORT,
    Approach,
    GetParam,
    MoveArea,
    Request,
    ScanRequest,
    TipClean,
    TipShaping,
    format_request,
    parse_area_change,
    parse_clean,
    parse_parameter,
)
from spm_gym.instrument.unscanned import unscanned_as_nan
from spm_gym.instrument.validation import (
    validate_act,
    validate_direction,
    validate_place,
    validate_scan,
)
from spm_gym.types import UNKNOWN_RANGE, Conditioning, Dip, Direction, Frame, Scan, Stall, Status

_T = TypeVar("_T")
_UNKNOWN_PLACE = (math.nan, math.nan)


class DeepSPMInstrument:
    """A microscope behind the text protocol; fulfils `Instrument` as far as that goes.

    The protocol can neither withdraw the tip nor tell position, height, current or bias; see
    `status` and `withdraw`. Nothing connects again by itself, and nothing is ever sent twice. A
    reply that is lost, late or unintelligible closes the connection, because nobody could say to
    which request the next bytes belong.

    Args:
        host: Of the server.
        port: Of the server.
        z_range: Lowest and highest height that the z piezo reaches, m; None asks the server.
        bias: What is set at the microscope, V; the protocol cannot tell.
        setpoint: What is set at the microscope, A; the protocol cannot tell.
        speed: Of scanning, the slower of forward and backward, m/s; bounds the time of a scan.
        timeouts: How long to wait.
        clock: Seconds for scans and status.

    Raises:
        ConnectionLost: Nobody listens there, or not in time.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PORT,
        *,
        z_range: tuple[float, float] | None = None,
        bias: float = math.nan,
        setpoint: float = math.nan,
        speed: float = 80e-9,
        timeouts: Timeouts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.bias = bias
        self.setpoint = setpoint
        self.speed = speed
        self.timeouts = timeouts or Timeouts()
        self._line = Line(host, port, self.timeouts)
        self._clock = clock
        self._z_range = z_range
        self._asked = z_range is not None
        self._know(_UNKNOWN_PLACE, approached=False)
        self._line.connect()

    def status(self) -> Status:
        """Tell what is known, which is little; may ask for the z range once, moves nothing.

        Place and height are those of the last request; after one that failed, and before the
        first, they are NaN. ``approached`` says whether the last request that needs contact went
        well. What the protocol cannot tell is named in ``details["unknown"]``.

        Raises:
            InstrumentError: The z range was asked for and no sensible answer came.
        """
        x, y = self._place
        return Status(
            x=x,
            y=y,
            z=self._z,
            z_range=self._ask_z_range() or UNKNOWN_RANGE,
            bias=self.bias,
            setpoint=self.setpoint,
            current=math.nan,
            approached=self._approached,
            time=self._clock(),
            details={
                "unknown": "current; bias and setpoint except as configured; x, y, z at this time",
                "connected": self._line.connected,
                "last_reply": self._line.last_reply,
            },
        )

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        """Scan the whole frame, whatever the fraction; lines beyond it are made NaN.

        Raises:
            LimitExceeded: The frame is rotated or a preview, a number not finite, or the server
                finds something out of bounds.
            CommandFailed: The server answered in words instead of an image.
            ConnectionLost: There is no connection, or it broke.
            TimedOut: The image did not come in time.
            BadReply: What came is not the image.
            ValueError: It is no frame, the fraction is not within 0 to 1, or a number absurdly
                large.
        """
        validate_scan(frame, fraction)
        if frame.angle:
            raise LimitExceeded(
                f"the text protocol knows no rotated frames, asked for {frame.angle:g} rad"
            )
        # A scan request has one number for both, and a full scan would take the time of one.
        if frame.lines != frame.pixels:
            raise LimitExceeded(
                f"the text protocol knows no previews, asked for {frame.lines} lines of "
                f"{frame.pixels} pixels"
            )
        request = ScanRequest(frame.x, frame.y, frame.size, frame.pixels)
        format_request(request)  # a frame that cannot be sent is refused before any question
        z_range = self._ask_z_range()
        started = self._clock()
        # If it fails, nobody knows where the tip has been left.
        self._know(_UNKNOWN_PLACE, approached=False)
        timeout = self._scan_time(frame) + self.timeouts.scan_margin
        z = unscanned_as_nan(self._line.ask_image(request, timeout))
        scanned = z[np.isfinite(z)]
        # The only height that the protocol ever gives.
        height = float(np.median(scanned)) if scanned.size else math.nan
        self._know((frame.x, frame.y), approached=True, z=height)
        # There is no partial scan; the caller gets what it has asked for, and no more.
        z[math.ceil(fraction * frame.lines) :] = np.nan
        return Scan(frame, z, z_range, self.bias, self.setpoint, started)

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        """Condition the probe at x, y (m); for a stall nothing is sent, as in the original.

        Raises:
            OutcomeUnknown: It was sent, and no intelligible reply came.
            LimitExceeded: A number is not finite, or the server finds something out of bounds.
            CommandFailed: The server answered that it failed; it may also say what happened, by
                ContactLost or TipCrashed.
            ConnectionLost: There is no connection; nothing was sent.
            BadReply: The server had spoken without being asked; nothing was sent.
            ValueError: Something is no action or no number; nothing was sent.
        """
        validate_act(action, x, y)
        if isinstance(action, Stall):
            return
        # Negative into the surface, as in the original; zero makes it a pulse.
        dip = -action.depth if isinstance(action, Dip) else 0.0
        request = TipShaping(x, y, dip, action.bias, action.width)
        self._act(request, self.timeouts.act + action.width, str)
        self._know((x, y), approached=True)

    def approach(self) -> None:
        """Let the server approach, as it does after contact was lost.

        Raises:
            InstrumentError: As for `condition`.
        """
        place = self._place
        self._act(Approach(), self.timeouts.approach, str)
        self._know(place, approached=True)

    def withdraw(self) -> None:
        """Refuse: the protocol has no such request.

        Raises:
            CommandFailed: Always; nothing was sent.
        """
        raise CommandFailed(
            "the text protocol cannot withdraw the tip: withdraw it by hand at the controller "
            "(after a crash, clean_tip lets the server retract and approach again)"
        )

    def retract(self) -> None:
        """Refuse: see `withdraw`.

        Raises:
            CommandFailed: Always; nothing was sent.
        """
        self.withdraw()

    def lend(self, work: Callable[[], None]) -> None:
        """Close the connection, let ``work`` be done, and connect again.

        Raises:
            ConnectionLost: There is no connection to be had afterwards.
        """
        self.close()
        try:
            work()
        finally:
            # Nobody can ask where the tip is now.
            self._know(_UNKNOWN_PLACE, approached=self._approached)
            self.reconnect()

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def move_area(self, direction: Direction) -> None:
        """Let the server move coarsely to a fresh approach area and approach there.

        Raises:
            InstrumentError: As for `condition`.
            ValueError: This is no direction; nothing was sent.
        """
        validate_direction(direction)
        self._act(MoveArea(direction), self.timeouts.coarse, parse_area_change)
        self._know((0.0, 0.0), approached=True)

    def clean_tip(self, x: float, y: float) -> bool:
        """Let the server recover from a crash: retract until free, approach carefully.

        Returns:
            Whether it succeeded; if not, the server has given up.

        Raises:
            InstrumentError: As for `condition`.
            ValueError: A coordinate is no number; nothing was sent.
        """
        validate_place(x, y)
        clean = self._act(TipClean(x, y), self.timeouts.coarse, parse_clean)
        self._know((x, y), approached=clean)
        return clean

    def area_side(self) -> float:
        """Ask for the side of the approach area, m.

        Raises:
            InstrumentError: No sensible answer came.
        """
        return self._ask("Range")

    def reconnect(self) -> None:
        """Close the connection if there is one, and connect; nothing is sent.

        Raises:
            ConnectionLost: Nobody listens, or not in time.
        """
        self._line.close()
        self._line.connect()

    def close(self) -> None:
        """Close the connection and leave the tip where it is; legal twice."""
        self._line.close()

    def _act(self, request: Request, timeout: float, understand: Callable[[str], _T]) -> _T:
        self._know(_UNKNOWN_PLACE, approached=False)
        return self._line.ask(request, timeout, understand, act=True)

    def _ask(self, name: str) -> float:
        return self._line.ask(
            GetParam(name), self.timeouts.question, lambda text: parse_parameter(text, name)
        )

    def _ask_z_range(self) -> tuple[float, float] | None:
        if not self._asked:
            # A server that does not know this parameter is not asked again.
            with contextlib.suppress(CommandFailed):
                # A width, which the original takes as symmetric about zero.
                half = self._ask("zRange") / 2
                self._z_range = (-half, half)
            self._asked = True
        return self._z_range

    def _know(self, place: tuple[float, float], approached: bool, z: float = math.nan) -> None:
        self._place, self._approached, self._z = place, approached, z

    def _scan_time(self, frame: Frame) -> float:
        return 2 * frame.lines * frame.size / self.speed  # forward and backward
