"""Chart of a learning curve of labels, and how it goes on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spm_gym.colours import Theme
from spm_gym.datasets.label_forecast import MORE, LabelForecast
from spm_gym.figures.report_charts import Chart, add_legend, draw, style_axes


def label_forecast_chart(forecast: LabelForecast) -> Chart:
    """Draw AUC over the number of labels: measured, by the power law, and with more labels."""

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        low, high = forecast.curve_intervals.T
        axes.fill_between(
            forecast.curve_sizes, low, high, color=theme.share, alpha=0.2, linewidth=0
        )
        known = forecast.curve_sizes <= forecast.labels
        for part, line in ((known, "-"), (forecast.curve_sizes >= forecast.labels, "--")):
            axes.plot(forecast.curve_sizes[part], forecast.curve[part], line, color=theme.share)
        axes.plot(forecast.sizes, forecast.measured, "o", color=theme.ink, ms=4, label="measured")
        axes.axvline(forecast.labels, color=theme.ink, lw=0.8, ls=":", label="now")
        end = forecast.then
        reach = np.abs(np.array(end.interval) - end.value)[:, None]
        axes.errorbar(
            forecast.labels + MORE, end.value, reach, fmt="D", color=theme.limit, capsize=3, ms=6,
            label=f"{MORE} more",
        )  # fmt: skip
        axes.set(xlabel="labels that it has learned from", ylabel="AUC", xlim=(0, None))
        # Of little over guessing the band may go below it; nothing is above 1.
        axes.set_ylim(max(min(0.5, float(low[-1])), 0), 1.005)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        style_axes(axes, theme)
        add_legend(axes, theme)

    alt = (
        f"Learning curve: AUC {forecast.measured[0]:.2f} after {forecast.sizes[0]} labels, "
        f"{forecast.measured[-1]:.2f} after {forecast.sizes[-1]}; by the curve through them "
        f"{forecast.now.value:.2f} with all {forecast.labels} and {forecast.then.value:.2f} with "
        f"{MORE} more"
    )
    return replace(draw((7.4, 3.2), alt, paint), narrow=draw((4.4, 3.2), alt, paint))
