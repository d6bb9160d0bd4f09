"""Which image comes next, and who sees what."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from spm_gym.imaging.statistics import STATISTICS
from spm_gym.web.labelling.candidates import Image, Order, in_order
from spm_gym.web.labelling.labels import Labels
from tests.support.labelling import FILES, candidates, desk_of


def never(file: str) -> bool:
    return False


def test_order() -> None:
    probabilities = {"a": 0.99, "b": 0.53, "c": 0.4, "d": 0.48, "e": 0.5}
    images = [
        Image(f, Path(f), 64, None, None, probability=p) for f, p in reversed(probabilities.items())
    ]

    def listed(order: Order, before: str = "") -> str:
        return "".join(image.file for image in in_order(images, order, before.__contains__, never))

    assert listed("informative") == "edbca"
    assert listed("informative", before="eb") == "dcaeb"
    assert listed("name") == "abcde"
    assert sorted(listed("random")) == list("abcde")
    assert listed("random") == listed("random") != "abcde"


def frames(
    places: int, frames_of_each: int, probability: Callable[[int], float | None]
) -> list[Image]:
    """Images of places, those of one place much alike; their names begin with its number."""
    rng = np.random.default_rng(0)
    images = []
    for place, middle in enumerate(rng.normal(size=(places, STATISTICS))):
        for frame in range(frames_of_each):
            file, statistics = f"{place:02d} {frame}", middle + 1e-3 * rng.normal(size=STATISTICS)
            images.append(
                Image(
                    file,
                    Path(file),
                    64,
                    None,
                    None,
                    probability=probability(place),
                    statistics=statistics,
                )
            )
    return images


@pytest.mark.parametrize("probability", [None, 0.5, math.nan])
def test_frames_of_one_place_do_not_follow_one_another(probability: float | None) -> None:
    images = frames(12, 5, lambda place: probability)
    ordered = [image.file[:2] for image in in_order(images, "informative", never, never)]
    assert len(set(ordered[:12])) == 12
    assert all(one != next_one for one, next_one in pairwise(ordered))
    # Also not one evening after the other.
    assert ordered[:12] != sorted(ordered[:12])


def test_unknown_and_unsure_come_before_sure_and_those_with_labels_from_before_last() -> None:
    answers = (math.nan, 0.7, 0.02, 0.97, 0.5)
    images = frames(20, 3, lambda place: answers[place % 5])
    before = {image.file for image in images[:15]}
    ordered = in_order(images, "informative", before.__contains__, before.__contains__)
    assert {image.file for image in ordered[45:]} == before
    sure = [image.probability in (0.02, 0.97) for image in ordered[:45]]
    assert sure == sorted(sure)
    kinds = [image.probability for image in ordered[:9]]
    assert all(math.isnan(kind) for kind in kinds[:3])
    assert kinds[3:] == [0.5] * 3 + [0.7] * 3


def test_images_like_labelled_ones_wait_for_everybody_but_labelled_ones_do_not() -> None:
    images = frames(8, 3, lambda place: None)
    labelled = {"00 1", "05 0"}
    ordered = in_order(images, "informative", never, labelled.__contains__)
    first = {image.file for image in ordered[:8]}
    # The second person gets the images of the first, too: they shall agree on some.
    assert labelled < first
    assert {file[:2] for file in first} == {f"{place:02d}" for place in range(8)}


def test_what_is_skipped_comes_again(tmp_path: Path) -> None:
    with Labels(tmp_path, candidates(tmp_path)) as labels:
        desk = desk_of(tmp_path, labels)
        first, second, *rest = FILES
        desk.skip("Anna", first)
        for file in (second, *rest):
            assert desk.next_after("Anna", None) == file
            assert desk.next_after("Ben", None) == first
            desk.answer("Anna", file, "good")
        assert desk.next_after("Anna", None) is None
        assert desk.progress("Anna").skipped == 1
        desk.offer_skipped("Anna")
        assert desk.next_after("Anna", None) == first


def test_only_who_has_classified_sees_a_disagreement(tmp_path: Path) -> None:
    with Labels(tmp_path, candidates(tmp_path)) as labels:
        desk = desk_of(tmp_path, labels)
        desk.answer("Anna", "1.npy", "good")
        desk.answer("Ben", "1.npy", "bad")
        listed, hidden = desk.disagreements("Anna")
        assert ([each.image.file for each in listed], hidden) == (["1.npy"], 0)
        assert desk.disagreements("Eve") == ([], 1)
