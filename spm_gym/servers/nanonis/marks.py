"""Marks in the scan window of the virtual controller: module Marks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spm_gym.servers.nanonis.bench import Handler, Refused

_MOST = 10_000
_POINT = ("x", "y", "text", "rgb")
_LINE = ("x1", "y1", "x2", "y2", "rgb")


class Marks:
    """Points and lines in the scan window; they have no effect on the microscope."""

    def __init__(self) -> None:
        self._points: list[dict[str, Any]] = []
        self._lines: list[dict[str, Any]] = []

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the module's commands, by name."""
        points, lines = self._points, self._lines
        return {
            "Marks.PointDraw": lambda **mark: _draw(points, [mark]),
            "Marks.PointsDraw": lambda **marks: _draw(points, _split(_POINT, marks)),
            "Marks.LineDraw": lambda **mark: _draw(lines, [mark]),
            "Marks.LinesDraw": lambda **marks: _draw(lines, _split(_LINE, marks)),
            "Marks.PointsErase": lambda index: _erase(points, index),
            "Marks.LinesErase": lambda index: _erase(lines, index),
            # A trap of the protocol: 0 shows a mark here, but 1 means visible in the Get.
            "Marks.PointsVisibleSet": lambda index, mode: _show(points, index, mode == 0),
            "Marks.LinesVisibleSet": lambda index, mode: _show(lines, index, mode == 0),
            "Marks.PointsGet": lambda: _listed((*_POINT, "visible"), points),
            "Marks.LinesGet": lambda: _listed((*_LINE, "visible"), lines),
        }


def _split(keys: tuple[str, ...], marks: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = zip(*(marks[key] for key in keys), strict=True)
    return [dict(zip(keys, row, strict=True)) for row in rows]


def _draw(kept: list[dict[str, Any]], marks: list[dict[str, Any]]) -> None:
    if len(kept) + len(marks) > _MOST:
        raise Refused(f"there is room for {_MOST} marks")
    kept.extend({**mark, "visible": 1} for mark in marks)


def _chosen(kept: list[dict[str, Any]], index: int) -> slice:
    if index == -1:  # all marks
        return slice(None)
    if not 0 <= index < len(kept):
        raise Refused(f"there is no mark {index}; there are {len(kept)}")
    return slice(index, index + 1)


def _erase(kept: list[dict[str, Any]], index: int) -> None:
    del kept[_chosen(kept, index)]


def _show(kept: list[dict[str, Any]], index: int, visible: bool) -> None:
    for mark in kept[_chosen(kept, index)]:
        mark["visible"] = int(visible)


def _listed(keys: tuple[str, ...], kept: list[dict[str, Any]]) -> dict[str, Any]:
    return {"n": len(kept), **{key: [mark[key] for mark in kept] for key in keys}}
