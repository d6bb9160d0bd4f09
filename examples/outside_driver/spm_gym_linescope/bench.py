"""The linescope's end of the line, over a microscope that spm-gym simulates."""

from __future__ import annotations

from collections.abc import Callable

from spm_gym.errors import InstrumentError, LimitExceeded
from spm_gym.instrument.contract import Instrument
from spm_gym.types import Dip, Direction, Frame, Pulse, Scan, Stall
from spm_gym_linescope.protocol import VERSION, failure, line, read_reply, write_row


class Bench:
    """Answers requests with a microscope; a real linescope would have its electronics here.

    Args:
        microscope: Carries them out.
        area: Side of the approach area, m.
    """

    def __init__(self, microscope: Instrument, area: float = 850e-9) -> None:
        self._microscope = microscope
        self._settings = {"speed": 80e-9, "area": area}
        self._scan: Scan | None = None
        self._do: dict[str, Callable[..., str]] = {
            "hello": lambda: line("ok linescope", VERSION, "simulated"),
            "status": self._status,
            "get": lambda name: line("ok", self._value(name)),
            "set": self._set,
            "scan": self._begin_scan,
            "row": self._row,
            "stop": lambda: "ok",
            "move": lambda x, y: self._act(
                lambda: self._microscope.condition(Stall(), float(x), float(y))
            ),
            "pulse": lambda bias, width: self._condition(Pulse(float(bias), float(width))),
            "dip": lambda depth, bias, width: self._condition(
                Dip(float(depth), float(bias), float(width))
            ),
            "approach": lambda: self._act(self._microscope.approach),
            "withdraw": lambda: self._act(self._microscope.withdraw),
            "retract": lambda steps: self._act(self._microscope.retract),
            "area": lambda direction, steps: self._act(
                lambda: self._microscope.move_area(Direction(direction))
            ),
        }

    def answer(self, request: str) -> str:
        """Carry a request out, and say how it went."""
        word, *words = request.split(" ")
        if word not in self._do:
            return line("error failed no such request:", word[:40])
        try:
            return self._do[word](*words)
        except (InstrumentError, ValueError, TypeError) as error:
            return failure(error)

    def _status(self) -> str:
        now = self._microscope.status()
        return line(
            "ok", now.x, now.y, now.z, *now.z_range, now.bias, now.setpoint, now.current,
            int(now.approached), now.time,
        )  # fmt: skip

    def _value(self, name: str) -> float:
        if name in ("bias", "setpoint"):
            return float(getattr(self._microscope.status(), name))
        return self._settings[name]

    def _set(self, name: str, value: str) -> str:
        if name == "speed":
            self._settings[name] = float(value)
        elif name in ("bias", "setpoint"):
            setattr(self._microscope, name, float(value))
        else:
            raise LimitExceeded(f"{name} cannot be set")
        return "ok"

    def _begin_scan(self, x: str, y: str, size: str, pixels: str, lines: str) -> str:
        # The simulator scans in an instant: every row is there when it is asked for.
        frame = Frame(float(x), float(y), float(size), int(pixels))
        self._scan = self._microscope.scan(frame, int(lines) / frame.pixels)
        return "ok"

    def _row(self, number: str) -> str:
        if self._scan is None:
            raise ValueError("nothing is being scanned")
        return line("ok", write_row(self._scan.z[int(number)]))

    def _condition(self, action: Pulse | Dip) -> str:
        here = self._microscope.status()
        return self._act(lambda: self._microscope.condition(action, here.x, here.y))

    def _act(self, act: Callable[[], None]) -> str:
        act()
        return "ok"


class RehearsedLine:
    """Stands in for a connection: every request is shown, and a bench answers it.

    Args:
        bench: Answers.
        show: Takes a line for every request.
    """

    def __init__(self, bench: Bench, show: Callable[[str], None]) -> None:
        self._bench = bench
        self._show = show

    def connect(self) -> None:
        """Do nothing: there is nobody to connect to."""

    def ask(self, request: str, takes: float = 0.0, act: bool = False) -> list[str]:
        """Show a request, and answer it."""
        self._show(request)
        return read_reply(self._bench.answer(request), request)

    def close(self) -> None:
        """Do nothing: there is no connection."""
