from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spm_gym.config import RegionConfig
from spm_gym.envs.regions import RegionMap, area_direction, kind_of_mark
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


def test_places_are_blocked_by_images_samples_conditioning_and_troubles() -> None:
    reasons = ("image", "bad sample", "pulse 1 V", "lost contact")
    kinds = [kind_of_mark(reason, ["pulse 1 V", "dip"]) for reason in reasons]
    assert kinds == ["image", "bad sample", "conditioning", "other"]


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


def choices(regions: RegionMap, last: tuple[float, float], draws: int) -> set[tuple[float, float]]:
    """Choose once with each of many generators."""
    drawn = {regions.next_region(last, np.random.default_rng(seed)) for seed in range(draws)}
    return {place for place in drawn if place is not None}


def blocked_by_arrays(
    regions: RegionMap, marks: list[tuple[float, float, float]]
) -> NDArray[np.bool_]:
    """Compute what the marks (m) block, by whole arrays."""
    axis, half = regions.axis, regions.image / 2
    blocked = np.zeros((axis.size, axis.size), dtype=bool)
    for x, y, radius in marks:
        gap_x = np.maximum(np.abs(axis - x) - half, 0.0)
        gap_y = np.maximum(np.abs(axis - y) - half, 0.0)
        within = max(radius - 1e-6 * regions.config.cell_nm * NM, 0.0)
        blocked |= gap_x[None, :] ** 2 + gap_y[:, None] ** 2 < within**2
    return blocked


def choice_by_arrays(
    regions: RegionMap, last: tuple[float, float] | None, rng: np.random.Generator
) -> tuple[float, float] | None:
    """The rule of the choice, by whole arrays."""
    if not regions.free.any():
        return None
    axis, config = regions.axis, regions.config
    x, y = last or (0.0, 0.0)
    distance = np.hypot((axis - x)[None, :], (axis - y)[:, None])
    cost = distance + config.alpha * (np.abs(axis)[None, :] + np.abs(axis)[:, None])
    cost[~regions.free] = np.inf
    rows, cols = np.nonzero(cost <= cost.min() + 1e-6 * config.cell_nm * NM)
    number = rng.integers(rows.size)
    row, col = rows[number], cols[number]
    if last is not None and distance[row, col] > config.max_jump_nm * NM:
        return None
    return float(axis[col]), float(axis[row])


def random_map(rng: np.random.Generator, cell: float) -> RegionMap:
    """A map with its marks: on the grid and off it, few and many, now and then all of it."""
    area = float(rng.choice([20, 100, 300]))
    regions = new_map(
        cell_nm=cell,
        area_nm=area,
        alpha=float(rng.choice([0, 0.3, 0.5**0.5, 0.9, 1, 1, 1, 2])),
        max_jump_nm=float(rng.choice([10, 50, 500])),
    )
    for _ in range(rng.integers(30)):
        x, y = rng.uniform(-area / 2, area / 2, 2)
        if rng.random() < 0.5:
            x, y = cell * np.round(np.array([x, y]) / cell)
        radius = rng.choice([0, 5, 10, 25, 60, 300], p=[0.1, 0.4, 0.2, 0.2, 0.08, 0.02])
        regions.mark(x * NM, y * NM, radius * NM, "test")
    return regions


def random_last(rng: np.random.Generator, regions: RegionMap) -> tuple[float, float] | None:
    """A place on the grid, on its middle lines (where many candidates tie), between, or none."""
    on_grid, between = rng.choice(regions.axis, 2), rng.uniform(regions.axis[0], regions.axis[-1])
    places = [(*on_grid,), (on_grid[0], 0.0), (0.0, on_grid[1]), (between, on_grid[0]), None]
    return places[rng.integers(len(places))]


@settings(max_examples=400)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 2.5, 7.3, 10.0, 10.0, 20.0]))
def test_map_and_choice_are_those_of_whole_arrays(seed: int, cell: float) -> None:
    rng = np.random.default_rng(seed)
    regions = random_map(rng, cell)
    marks = [(mark.x, mark.y, mark.radius) for mark in regions.marks]
    assert np.array_equal(regions.free, ~blocked_by_arrays(regions, marks))
    last = random_last(rng, regions)
    for _ in range(4):
        ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
        chosen = regions.next_region(last, ours)
        assert chosen == choice_by_arrays(regions, last, theirs)
        assert ours.bit_generator.state == theirs.bit_generator.state
        if chosen is None:
            break
        last = chosen
        regions.mark(*chosen, 0.6 * cell * NM, "image")


@pytest.mark.parametrize("last", [None, (400 * NM, 0.0), (123.4 * NM, -56.7 * NM)])
def test_a_map_of_seven_hundred_thousand_cells(last: tuple[float, float] | None) -> None:
    regions = new_map(cell_nm=1)
    for _ in range(3):
        one, other = np.random.default_rng(5), np.random.default_rng(5)
        chosen = regions.next_region(last, one)
        assert chosen is not None
        assert chosen == choice_by_arrays(regions, last, other)
        regions.mark(*chosen, 150 * NM, "bad sample")


def test_a_tie_of_a_whole_line_is_drawn_from_all_of_it() -> None:
    """Between the last region and the centre, along an axis, every place costs the same."""
    regions = new_map()
    chosen = choices(regions, (0.0, 80 * NM), draws=200)
    assert sorted(round(y / NM) for _, y in chosen) == list(range(0, 90, 10))
    assert {x for x, _ in chosen} == {0.0}


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
    chosen = choices(regions, (0.0, 0.0), draws=40)
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
    place, visited = (0, 0), {(0, 0)}
    for changes in range(200):
        dx, dy = step[area_direction(changes)]
        place = (place[0] + dx, place[1] + dy)
        visited.add(place)
    assert len(visited) == 201
    assert max(abs(x) for x, _ in visited) <= 8


def test_an_image_uses_up_its_own_place_and_no_neighbour() -> None:
    """On the paper's grid, images of one cell touch their neighbours; rounding is no overlap."""
    plan = RegionMap(RegionConfig(), 10 * NM)
    for number, (row, col) in enumerate(np.ndindex(plan.free.shape), start=1):
        plan.mark(float(plan.axis[col]), float(plan.axis[row]), 5 * NM, "image")
        if number % 500 == 1:
            assert (~plan.free).sum() == number
    assert number == plan.free.size
    assert not plan.free.any()
