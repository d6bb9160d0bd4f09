"""Images that resemble one another do not follow one another."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.imaging.dissimilar import dissimilar_first
from spm_gym.imaging.statistics import STATISTICS, image_statistics


def places(count: int, copies: int = 1, seed: int = 0) -> np.ndarray:
    """Statistics of frames of places, the frames of one place one after the other."""
    rng = np.random.default_rng(seed)
    frames = np.repeat(rng.normal(size=(count, STATISTICS)), copies, axis=0)
    return np.asarray(frames + 1e-3 * rng.normal(size=frames.shape))


@pytest.mark.parametrize("exact", [False, True])
def test_frames_of_one_place_are_apart(exact: bool) -> None:
    statistics = places(30, copies=4)
    if exact:
        statistics = np.repeat(statistics[::4], 4, axis=0)
    order = dissimilar_first(statistics, [range(120)], [])
    place = np.array(order) // 4
    assert sorted(place[:30]) == list(range(30))
    assert np.all(place[1:] != place[:-1])


def test_the_given_order_holds_unless_images_resemble_one_another() -> None:
    statistics = places(6, copies=2)
    assert dissimilar_first(statistics, [range(12)], []) == [*range(0, 12, 2), *range(1, 12, 2)]


def test_what_resembles_a_labelled_image_waits_and_that_image_does_not() -> None:
    statistics = places(5, copies=2)
    order = dissimilar_first(statistics, [range(10)], [0, 5])
    assert order == [0, 2, 5, 6, 8, 1, 3, 4, 7, 9]
    # Of a group that is all like labelled ones, everything comes nevertheless.
    assert sorted(dissimilar_first(statistics, [[1, 4]], [0, 5])) == [1, 4]


def test_groups_come_one_after_the_other() -> None:
    statistics = places(4, copies=3)
    order = dissimilar_first(statistics, [range(6), range(6, 12)], [])
    assert (set(order[:6]), set(order[6:])) == (set(range(6)), set(range(6, 12)))


@given(
    st.lists(st.sampled_from([0.0, 1.0, -3.5, np.nan, np.inf]), min_size=0, max_size=24),
    st.data(),
)
def test_every_image_comes_once_and_always_in_the_same_place(
    values: list[float], data: st.DataObject
) -> None:
    statistics = np.column_stack([values, np.roll(values, 1)]).reshape(-1, 2)
    images = data.draw(st.permutations(range(len(values))))
    cut = data.draw(st.integers(0, len(values)))
    known = data.draw(st.lists(st.sampled_from(images), unique=True)) if images else []
    groups = [images[:cut], images[cut:]]
    found = dissimilar_first(statistics, groups, known)
    assert sorted(found[:cut]) == sorted(images[:cut])
    assert sorted(found[cut:]) == sorted(images[cut:])
    assert found == dissimilar_first(statistics.copy(), groups, known)


def test_thousands_of_images_take_seconds() -> None:
    begin = time.perf_counter()
    # The worst: all are equal, and every pass takes one.
    assert len(dissimilar_first(np.ones((4000, STATISTICS)), [range(4000)], [])) == 4000
    assert time.perf_counter() - begin < 20


def test_there_are_as_many_statistics_as_said() -> None:
    assert image_statistics(np.zeros((2, 1, 64, 64), np.float32)).shape == (2, STATISTICS)
