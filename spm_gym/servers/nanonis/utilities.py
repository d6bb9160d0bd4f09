"""Commands without physics: module Util, windows that open, scan frames for patterns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spm_gym.servers.nanonis.bench import Bench, Handler, Refused
from spm_gym.servers.nanonis.session import SessionFolder

_ACCEPTED = (
    "BiasSpectr.Open",
    "ZSpectr.Open",
    "Osci1T.Run",
    "Osci2T.Run",
    "Util.SettingsLoad",
    "Util.SettingsSave",
    "Util.LayoutLoad",
    "Util.LayoutSave",
    "Util.Lock",
    "Util.UnLock",
)
_FRAME = ("centre_x", "centre_y", "width", "height", "angle")


class Utilities:
    """Answers commands that have no effect in a simulation.

    Args:
        bench: Shared by all modules.
        session: Folder of saved scans.
    """

    def __init__(self, bench: Bench, session: SessionFolder) -> None:
        self._bench = bench
        self._session = session

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the module's commands, by name."""
        return {
            **{name: lambda **_: None for name in _ACCEPTED},
            "Util.Quit": self._quit,
            "Util.VersionGet": self._version,
            "Util.SessionPathGet": lambda: {"path": str(self._session.path)},
            "Util.SessionPathSet": lambda path, **_: self._session.choose(path),
            "Pattern.GridSet": self._set_grid,
        }

    def _quit(self, **_: Any) -> None:
        # A client must not be able to end a server that others use.
        raise Refused("a virtual controller is stopped where it was started")

    def _version(self) -> dict[str, Any]:
        release = self._bench.release
        return {
            "product_line": "Virtual Nanonis",
            "version": "Generic 5",
            "host_release": release,
            "rt_engine_release": release,
        }

    def _set_grid(
        self, activate_grid: int, nx: int, ny: int, use_scan_frame: int, **frame: float
    ) -> None:
        # The frame of the command counts only if the scan frame is not to be used.
        if use_scan_frame:
            frame = {key: self._bench.settings.of("Scan.Frame")[key] for key in _FRAME}
        self._bench.settings.of("Pattern.Grid").update(nx=nx, ny=ny, **frame)
