"""The order of `spm-gym label` and its forecast of more labels, on images that have labels.

    python benchmarks/labelling.py --data images.npz

Each repeat keeps ten sessions back. The first table has the AUC on them of the quick model after
learning from the first images of an order of the others: of the first 50 and 100 without a
classifier, and of 50 after 50 random ones whose model is the classifier. The second compares
forecasts from the first labels with what 50 and 100 more then brought.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from learning_report import markdown_table
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from spm_gym.assembly.process import limit_threads
from spm_gym.datasets.label_forecast import MORE, forecast_labels, quick_scores
from spm_gym.datasets.labelled import load_labelled
from spm_gym.imaging import normalise
from spm_gym.imaging.dissimilar import dissimilar_first
from spm_gym.imaging.statistics import image_statistics, whitening_of

_KEPT_BACK = 10
_POOL = 1200
_LOGITS = 3.0
"""Of the quick model's scores: its probabilities then are spread as those of a classifier."""


class Labelled(NamedTuple):
    """Statistics (N, K) of images, whether they are good, and their sessions, (N,)."""

    statistics: NDArray[np.float64]
    good: NDArray[np.bool_]
    session: NDArray[np.str_]

    def auc(self, learned: list[int], others: NDArray[np.intp]) -> float:
        """Score the quick model that has learned from some images on others."""
        points = self.statistics
        scores = quick_scores(points[learned], self.good[learned], points[others])
        return float(roc_auc_score(self.good[others], scores))


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="labelled images with sessions")
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    limit_threads(1)
    loaded = load_labelled(arguments.data, arguments.pixels, "levels")
    images = np.stack([normalise(z, "image") for z in loaded.heights])[:, None]
    statistics = image_statistics(images)
    data = Labelled(statistics, loaded.good, loaded.session)
    print(f"{len(images)} images of {len(np.unique(data.session))} sessions\n")
    print(orders_table(data, arguments.repeats))
    print(forecasts_table(data, arguments.repeats))


def divided(data: Labelled, seed: int) -> tuple[list[int], NDArray[np.intp]]:
    """Draw images to be labelled, in random order, and those of the sessions kept back."""
    rng = np.random.default_rng(seed)
    back = np.isin(data.session, rng.permutation(np.unique(data.session))[:_KEPT_BACK])
    pool = rng.permutation(np.flatnonzero(~back))[:_POOL]
    return [int(each) for each in pool], np.flatnonzero(back)


def orders_table(data: Labelled, repeats: int) -> str:
    """Compare orders."""
    found = defaultdict(list)
    for seed in range(repeats):
        pool, back = divided(data, seed)
        first, rest = pool[:50], pool[50:]
        score = quick_scores(data.statistics[first], data.good[first], data.statistics)
        certainty = np.abs(1 / (1 + np.exp(-_LOGITS * score)) - 0.5)
        unsure = sorted(rest, key=lambda image: certainty[image])
        groups = [[image for image in unsure if (certainty[image] >= 0.45) == sure]
                  for sure in (False, True)]  # fmt: skip
        orders = {
            "at random": (pool, rest),
            "informative": (
                dissimilar_first(data.statistics, [pool], []),
                dissimilar_first(data.statistics, groups, first),
            ),
            "least sure": (None, unsure),
            "farthest": (farthest_first(data.statistics, pool), None),
        }
        for name, (without, later) in orders.items():
            if without is not None:
                found[name, 0].append(data.auc(without[:50], back))
                found[name, 1].append(data.auc(without[:100], back))
            if later is not None:
                found[name, 2].append(data.auc(first + later[:50], back))
    names = dict.fromkeys(name for name, _ in found)
    rows = [[name, *(in_words(found[name, n]) for n in range(3))] for name in names]
    return markdown_table(["order", "first 50", "first 100", "50 after 50 random"], rows)


def in_words(values: list[float]) -> str:
    """Give the mean of values and its standard error."""
    if not values:
        return ""
    return f"{np.mean(values):.3f} ± {np.std(values) / len(values) ** 0.5:.3f}"


def farthest_first(statistics: NDArray[np.float64], pool: list[int]) -> list[int]:
    """Take the image that is farthest from all before (k-center), a hundred times."""
    mean, matrix = whitening_of(statistics[pool])
    points = (statistics[pool] - mean) @ matrix
    taken, distance = [0], np.full(len(pool), np.inf)
    for _ in range(99):
        distance = np.minimum(distance, np.linalg.norm(points - points[taken[-1]], axis=1))
        taken.append(int(distance.argmax()))
    return [pool[place] for place in taken]


def forecasts_table(data: Labelled, repeats: int) -> str:
    """Compare forecasts with what more labels brought."""
    rows = []
    for labels in (100, 200, 300):
        values = []
        for seed in range(repeats):
            pool, back = divided(data, seed)
            order = dissimilar_first(data.statistics, [pool], [])
            known = order[:labels]
            it = forecast_labels(data.statistics[known], data.good[known], data.session[known])
            if it is None:
                continue
            now, then, later = (data.auc(order[: labels + n], back) for n in (0, MORE, 100))
            truths = zip((it.now, it.then, it.gain), (now, then, then - now), strict=True)
            inside = [each.interval[0] <= truth <= each.interval[1] for each, truth in truths]
            values.append(
                (now, then, later, it.now.value, it.then.value, then - now, it.gain.value, *inside)
            )
        means = np.mean(values, axis=0)
        rows.append([str(labels), *(f"{each:.3f}" for each in means[:5]),
                     *(f"{each:+.4f}" for each in means[5:7]),
                     *(f"{each:.0%}" for each in means[7:])])  # fmt: skip
    return markdown_table(
        ["labels", "AUC now", "with 50 more", "with 100 more", "forecast: now", "with 50 more",
         "gain", "forecast", "now within", "50 more within", "gain within"],
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
