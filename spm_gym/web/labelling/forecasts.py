"""Forecasts of more labels for the page: made when asked for, once for the same labels."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spm_gym.datasets.label_forecast import LabelForecast, forecast_labels
from spm_gym.web.labelling.desk import Desk, TrainingLabel

if TYPE_CHECKING:
    from spm_gym.figures.report_charts import Chart


@dataclass(frozen=True, slots=True)
class ForecastFacts:
    """Facts for the part of the page on more labels.

    Attributes:
        good: Labels that the forecast has.
        bad: Likewise.
        forecast: None if they are too few.
        chart: Of the forecast; None likewise, or if the forecast has nothing to show.
    """

    good: int
    bad: int
    forecast: LabelForecast | None
    chart: Chart | None


class Forecaster:
    """Forecasts from the labels of a desk.

    Args:
        desk: Images and labels.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._labels: list[TrainingLabel] | None = None
        self._facts = ForecastFacts(0, 0, None, None)
        # Two browsers that ask at once wait for the same forecast.
        self._lock = threading.Lock()

    def facts(self) -> ForecastFacts:
        """Forecast, unless the labels are still the same."""
        with self._lock:
            labels = self._desk.training_labels()
            if labels != self._labels:
                self._facts, self._labels = self._facts_of(labels), labels
            return self._facts

    def _facts_of(self, labels: list[TrainingLabel]) -> ForecastFacts:
        good = np.array([each.good for each in labels], np.bool_)
        images = [self._desk.images[each.file] for each in labels]
        statistics = np.array([image.statistics for image in images])
        session = np.array([each.session for each in labels], np.str_)
        forecast = forecast_labels(statistics, good, session)
        chart = None
        if forecast is not None and not forecast.faultless:
            # Here, for Matplotlib is slow to import, and the page would begin later.
            from spm_gym.figures.label_forecast import label_forecast_chart

            chart = label_forecast_chart(forecast)
        return ForecastFacts(int(good.sum()), int((~good).sum()), forecast, chart)
