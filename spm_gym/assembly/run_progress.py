"""The progress bar of a run."""

from __future__ import annotations

from contextlib import suppress

from tqdm import tqdm

from spm_gym.config import Config
from spm_gym.runner.run_state import RunState


class RunProgress:
    """Prints how far the run is, what it does, and how well it goes, in one line.

    Args:
        config: Settings of the run.
    """

    def __init__(self, config: Config) -> None:
        settings = config.operation
        self._by_hours = settings.scans is None
        self._survey = not settings.conditioning
        self._started = False
        self._bar = tqdm(
            desc="survey" if self._survey else "operation",
            total=settings.hours if self._by_hours else settings.scans,
            unit="h" if self._by_hours else "image",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total_fmt} {unit} [{remaining}"
            " left{postfix}]"
            if settings.hours or settings.scans
            else "{desc}:{postfix}",
            mininterval=1,
        )

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._bar.close()

    def show(self, run_state: RunState) -> None:
        """Update the line."""
        images, counters = run_state.imaging.images, run_state.counters
        done = run_state.clock.elapsed / 3600 if self._by_hours else images
        figures: dict[str, object] = {"state": run_state.state, "images": images}
        if not self._survey:
            good, bad = counters["good"], counters["bad probe"]
            figures["good"] = f"{good / max(1, good + bad):.0%}"
            if counters["unknown"]:
                figures["unknown"] = counters["unknown"]
            figures["conditionings"] = counters["episodes"]
        figures["troubles"] = counters["recoveries"]
        self._bar.set_postfix(figures, refresh=False)
        limit = self._bar.total
        # The last transition may go beyond the bound, and a bar beyond its end loses its scale.
        reached = done if limit is None else min(done, limit)
        if not self._started:  # what earlier sessions have done says nothing about the pace of this
            self._started = True
            self._bar.initial = self._bar.n = self._bar.last_print_n = reached
        with suppress(OSError):  # nobody watches any more
            self._bar.update(reached - self._bar.n)
