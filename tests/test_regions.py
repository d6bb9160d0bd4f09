from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spm_gym.config import RegionConfig
from spm_gym.regions import RegionMap, area_direction
from spm_gym.types import Direction

NM = 1e-9
discs = st.lists(
    st.tuples(
        st.integers(-4300, 4300).map(lambda tenths: tenths / 10),
        st.integers(-4300, 4300).map(lambda tenths: tenths / 10),
        st.integers(0, 1200).map(lambda tenths: tenths / 10 + 0.03),
    ),
    max_size=12,
)


def new_map(**settings: float) -> RegionMap:
    return RegionMap(RegionConfig(**settings), image=10 * NM)


def test_the_first_region_is_the_centre() -> None:
    assert new_map().next_region(None, np.random.default_rng(0)) == (0.0, 0.0)


def test_candidates_keep_half_an_image_from_the_edge() -> None:
    assert new_map().axis.max() == pytest.approx(420 * NM)
    assert new_map(cell_nm=1).axis.max() == pytest.approx(420 * NM)


@settings(max_examples=60, deadline=None)
@given(discs, st.integers(0, 2**32 - 1))
def test_choice_is_the_cheapest_candidate_by_a_plain_loop(
    marks: list[tuple[float, float, float]], seed: int
) -> None:
    regions = new_map(cell_nm=40)
    for x, y, radius in marks:
        regions.mark(x * NM, y * NM, radius * NM, "test")
    last = (80 * NM, -40 * NM)
    best = np.inf
    for vy in regions.axis / NM:
        for vx in regions.axis / NM:
            clear = all(
                np.hypot(max(abs(vx - x) - 5, 0), max(abs(vy - y) - 5, 0)) >= radius
                for x, y, radius in marks
            )
            if clear:
                best = min(best, np.hypot(vx - 80, vy + 40) + abs(vx) + abs(vy))
    chosen = regions.next_region(last, np.random.default_rng(seed))
    if chosen is None:
        assert best > 500
    else:
        x, y = chosen[0] / NM, chosen[1] / NM
        assert np.hypot(x - 80, y + 40) + abs(x) + abs(y) == pytest.approx(best, abs=1e-4)


def test_the_footprint_counts_not_only_its_centre() -> None:
    regions = new_map()
    regions.mark(0.0, 0.0, 10 * NM, "dip")
    middle = regions.axis.size // 2
    assert not regions.free[middle, middle + 1]  # 10 nm away: its edge lies 5 nm from the disc
    assert regions.free[middle, middle + 2]  # 20 nm away: 15 nm from the disc's centre
    assert not regions.free[middle + 1, middle + 1]  # corner 7.1 nm away
    assert regions.free[middle + 2, middle + 2]


def test_ties_are_broken_by_the_generator() -> None:
    regions = new_map()
    regions.mark(0.0, 0.0, 5 * NM, "image")
    chosen = {regions.next_region((0.0, 0.0), np.random.default_rng(seed)) for seed in range(40)}
    assert len(chosen) == 4
    assert all(abs(x) + abs(y) == pytest.approx(10 * NM) for x, y in chosen)


def test_a_used_up_area_has_no_next_region() -> None:
    regions = new_map()
    regions.mark(0.0, 0.0, 1000 * NM, "bad sample")
    assert regions.usable_share == 0
    assert regions.next_region(None, np.random.default_rng(0)) is None


def test_a_jump_beyond_the_limit_is_refused() -> None:
    regions = new_map()
    regions.mark(-100 * NM, -100 * NM, 520 * NM, "bad sample")
    rng = np.random.default_rng(0)
    assert regions.next_region((-400 * NM, -400 * NM), rng) is None
    assert regions.next_region((300 * NM, 300 * NM), rng) is not None


@given(discs)
def test_marks_restore_the_map(marks: list[tuple[float, float, float]]) -> None:
    one, other = new_map(cell_nm=20), new_map(cell_nm=20)
    for x, y, radius in marks:
        one.mark(x * NM, y * NM, radius * NM, "test")
    other.restore(one.marks)
    assert np.array_equal(one.free, other.free)
    assert one.marks == other.marks


def test_the_spiral_of_areas_never_comes_back() -> None:
    step = {
        Direction.X_PLUS: (1, 0),
        Direction.Y_PLUS: (0, 1),
        Direction.X_MINUS: (-1, 0),
        Direction.Y_MINUS: (0, -1),
    }
    place, seen = (0, 0), {(0, 0)}
    for changes in range(200):
        dx, dy = step[area_direction(changes)]
        place = (place[0] + dx, place[1] + dy)
        seen.add(place)
    assert len(seen) == 201
    assert max(abs(x) for x, _ in seen) <= 8


def test_an_image_uses_up_its_own_place_and_no_neighbour() -> None:
    """On the paper's grid, images of one cell touch their neighbours; rounding is no overlap."""
    plan = RegionMap(RegionConfig(), 10 * NM)
    for number, (row, col) in enumerate(np.ndindex(plan.free.shape), start=1):
        plan.mark(float(plan.axis[col]), float(plan.axis[row]), 5 * NM, "image")
        if number % 500 == 1:
            assert (~plan.free).sum() == number
    assert number == plan.free.size
    assert not plan.free.any()
