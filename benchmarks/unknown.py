"""Images that the included classifier does not know: its score beside others that are known.

    python benchmarks/unknown.py --data images.npz --crops scans/

Each score is fitted to simulated images of the default settings, with a limit beyond which 0.5 % of
others of these lie. The table has the share that each calls unknown: of other samples (should be
large), and of good simulated images under shifts (should be small). ``--renew FILE`` writes the
included classifier with the images that it compares others with taken again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from learning_report import markdown_table
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch import nn

from agents.classifier import ProbeClassifier
from agents.classifier_report import calibration_error
from agents.counterexamples import counterexamples
from agents.novelty import Novelty
from agents.vgg import VGG
from spm_gym.assembly.process import limit_threads
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import SimulatorConfig, load_config
from spm_gym.datasets.labelled import load_labelled
from spm_gym.datasets.simulated import PreparedImages, prepared_images
from spm_gym.imaging import level, normalise
from spm_gym.imaging.files import READERS, read_topography
from spm_gym.imaging.statistics import image_statistics, whitening_of

_Images = NDArray[np.float32]
_Array = NDArray[np.float64]
_Score = Callable[[_Images], _Array]

_LIMIT = 0.995
_NEIGHBOURS = 5
_KEPT = 4000

_USUAL = SimulatorConfig()
SHIFTS = {
    "none": (),
    "noise x 2": (
        f"simulator.white_noise_pm={2 * _USUAL.white_noise_pm}",
        f"simulator.line_noise_pm={2 * _USUAL.line_noise_pm}",
    ),
    "coverage x 0.5": (f"simulator.molecules_per_nm2={0.5 * _USUAL.molecules_per_nm2}",),
    "coverage x 1.6": (f"simulator.molecules_per_nm2={1.6 * _USUAL.molecules_per_nm2}",),
}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="labelled images of another sample, .npz")
    parser.add_argument("--crops", type=Path, help="folder of scans of other samples, to be cut")
    parser.add_argument("--images", type=int, default=3000, help="simulated; default: 3000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the shares here")
    parser.add_argument("--renew", type=Path, metavar="FILE", help="write the classifier, and stop")
    arguments = parser.parse_args()
    limit_threads(1)
    classifier = ProbeClassifier.load(shipped_classifier())
    if arguments.renew is not None:
        renew(classifier, arguments.renew)
        return
    fresh = {name: simulated(arguments.images, arguments.seed + 1 + number, shift)
             for number, (name, shift) in enumerate(SHIFTS.items())}  # fmt: skip
    quality(classifier, fresh["none"])
    foreign = strangers(classifier.pixels, arguments.data, arguments.crops, arguments.seed)
    shares = compare(classifier, fresh, foreign, arguments.seed)
    names = next(iter(shares.values()))
    rows = [[score, *(f"{share:.3f}" for share in each.values())] for score, each in shares.items()]
    print(markdown_table(["score", *names], rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(shares, indent=1) + "\n", encoding="utf-8")


def simulated(count: int, seed: int, settings: tuple[str, ...] = ()) -> PreparedImages:
    """Simulate images of the default settings, or of some that differ."""
    return prepared_images(load_config(None, list(settings)), count, seed)


def quality(classifier: ProbeClassifier, images: PreparedImages) -> None:
    """Print area under the ROC curve and calibration error."""
    probability = classifier.probability(images.observations)
    called = classifier(images.observations)[~images.good] > 0.9
    print(
        f"{len(images.good)} simulated images: AUC {roc_auc_score(images.good, probability):.5f}, "
        f"calibration error {calibration_error(probability, images.good):.4f}, bad ones called "
        f"good {called.mean():.4f}\n"
    )


def strangers(pixels: int, data: Path | None, crops: Path | None, seed: int) -> dict[str, _Images]:
    """Collect images of other samples, normalised, (N, 1, pixels, pixels)."""
    found = {}
    if data is not None:
        loaded = load_labelled(data, pixels, "levels", to_train=False)
        scale = 1e-10 if loaded.metres else "image"
        found[data.stem] = np.stack([normalise(z, scale) for z in loaded.heights])[:, None]
    if crops is not None:
        scans = [read_topography(path).z for path in sorted(crops.iterdir())
                 if path.suffix.lower() in READERS]  # fmt: skip
        cut = [z[row : row + pixels, col : col + pixels] for z in scans
               for row in range(0, z.shape[0] - pixels + 1, pixels // 2)
               for col in range(0, z.shape[1] - pixels + 1, pixels // 2)]  # fmt: skip
        whole = [z for z in cut if np.isfinite(z).all()]
        found[f"{len(whole)} crops"] = np.stack([normalise(level(z)) for z in whole])[:, None]
    drawn = counterexamples(500, pixels, np.random.default_rng(seed))
    return {**found, "terraces, steps, lattices": drawn[:, None]}


def compare(
    classifier: ProbeClassifier,
    fresh: dict[str, PreparedImages],
    foreign: dict[str, _Images],
    seed: int,
) -> dict[str, dict[str, float]]:
    """Share that each score calls unknown, by kind of images."""
    training, limits = (simulated(8000, seed + 100 + n).observations for n in (0, 1))
    # Of the classifier as it is included, with the limit of its own file.
    unknown = {"included": classifier.unknown}
    for name, fitted in scores(classifier.network, training).items():
        limit = np.quantile(fitted(limits), _LIMIT)
        unknown[name] = lambda images, fitted=fitted, limit=limit: fitted(images) > limit  # type: ignore[misc]
    return {
        score: {
            **{name: float(found(images).mean()) for name, images in foreign.items()},
            **{f"good, {name}": float(found(images.observations[images.good]).mean())
               for name, images in fresh.items()},
        }
        for score, found in unknown.items()
    }  # fmt: skip


def scores(network: VGG, training: _Images) -> dict[str, _Score]:
    """Fit every score to training images."""
    features = {
        "last features": lambda images: layers(network, images)[0],
        "all maps": lambda images: layers(network, images)[1],
        "statistics": image_statistics,
    }
    found: dict[str, _Score] = {}
    for name, measure in features.items():
        values = measure(training)
        found[f"Mahalanobis, {name}"] = mahalanobis(measure, values)
        found[f"neighbours (cosine), {name}"] = neighbours(measure, values)
        found[f"neighbours (whitened), {name}"] = neighbours(measure, values, whitened=True)
    return found


def layers(network: VGG, images: _Images) -> tuple[_Array, _Array]:
    """Compute the last hidden layer (N, F), and mean and spread of every map, (N, M)."""
    last, maps = [], []
    with torch.inference_mode():
        for part in torch.split(torch.from_numpy(np.ascontiguousarray(images)), 256):
            each, values = [], part
            for layer in network.trunk:
                values = layer(values)
                if isinstance(layer, nn.ReLU) and values.ndim == 4:
                    each += [values.mean(dim=(2, 3)), values.std(dim=(2, 3))]
            last.append(values.clone())
            maps.append(torch.cat(each, dim=1))
    return torch.cat(last).numpy().astype(float), torch.cat(maps).numpy().astype(float)


def whitening(values: _Array) -> Callable[[_Array], _Array]:
    """Learn to scale differences by the covariance of values (N, K)."""
    mean, matrix = whitening_of(values)
    return lambda others: np.asarray((others - mean) @ matrix)


def mahalanobis(measure: Callable[[_Images], _Array], values: _Array) -> _Score:
    """Score by the distance to the mean of all training images."""
    white = whitening(values)
    return lambda images: np.asarray(np.linalg.norm(white(measure(images)), axis=1))


def neighbours(
    measure: Callable[[_Images], _Array], values: _Array, whitened: bool = False
) -> _Score:
    """Score by the distance to the fifth nearest training image."""
    prepare = whitening(values) if whitened else np.asarray
    metric = "euclidean" if whitened else "cosine"
    tree = NearestNeighbors(n_neighbors=_NEIGHBOURS, metric=metric).fit(prepare(values)[:_KEPT])
    return lambda images: np.asarray(tree.kneighbors(prepare(measure(images)))[0][:, -1])


def renew(classifier: ProbeClassifier, path: Path) -> None:
    """Write a classifier with the images that it compares others with taken again."""
    seed = classifier.summary["seed"]
    images = simulated(12_000, seed).observations
    classifier.novelty = Novelty.of(image_statistics(images), np.random.default_rng([seed, 2]))
    classifier.save(path)


if __name__ == "__main__":
    main()
