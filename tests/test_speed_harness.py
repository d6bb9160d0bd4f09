"""The harness of the speed benchmarks: nothing here depends on how fast the machine is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import speed
import speed_regions
from measure import Figure, Outcome, Skipped, compare, of_values

ROOT = Path(__file__).parents[1]


class Clock:
    """Time that passes only during work."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, seconds: Iterator[float] | float) -> Callable[[], object]:
        def call() -> None:
            self.calls.append(name)
            self.now += seconds if isinstance(seconds, float) else next(seconds)

        return call


def figure(name: str, ratio: float) -> Figure:
    return of_values(name, [1.0], [ratio], at_least=1, unit="ms")


def recorded(**ratios: float) -> list[speed.Record]:
    figures = {"regions": [figure(name, ratio) for name, ratio in ratios.items()]}
    return speed.records(figures, [], "a machine")


def test_times_are_those_of_one_piece_of_work_in_the_unit() -> None:
    clock = Clock()
    ours, reference = clock.work("ours", 0.030), clock.work("reference", 0.240)
    one = compare("x", ours, reference, 2, ours_per=3, unit="us", clock=clock)
    assert one.ours == pytest.approx(10_000)
    assert one.reference == pytest.approx(240_000)
    assert one.ratio == pytest.approx(24)
    assert one.reached
    assert not replace(one, at_least=24.1).reached


def test_both_take_turns_and_every_other_pair_is_reversed() -> None:
    clock = Clock()
    compare("x", clock.work("a", 1.0), clock.work("b", 1.0), 1, pairs=4, clock=clock)
    assert "".join(clock.calls).endswith("abbaabba")
    assert clock.calls[:4] == ["a", "a", "b", "b"]  # the first call may compile


def test_short_work_is_repeated_until_a_sample_lasts_two_milliseconds() -> None:
    clock = Clock()
    one = compare("x", clock.work("a", 0.0004), clock.work("b", 1.0), 1, pairs=1, clock=clock)
    assert clock.calls.count("a") == 2 + 5
    assert clock.calls.count("b") == 2 + 1
    assert one.ours == pytest.approx(0.4)


def test_a_pause_of_the_machine_moves_no_median() -> None:
    clock = Clock()
    seconds = iter([1.0, 1.0, 1.0, 1.0, 50.0, 1.0, 1.0])
    one = compare("x", clock.work("a", seconds), clock.work("b", 3.0), 1, pairs=5, clock=clock)
    assert one.ratio == pytest.approx(3)
    assert one.spreads.ratio == pytest.approx((3, 3))


def test_of_rates_more_is_better() -> None:
    assert of_values("rate", [20.0], [10.0], 1, "1/s", more_is_better=True).ratio == 2
    assert of_values("error", [20.0], [10.0], 1, "pm").ratio == 0.5


def test_the_ratio_is_taken_in_pairs() -> None:
    one = of_values("x", [1, 2, 4], [10, 10, 80], 1, "ms")
    assert one.ratio == 10  # not the ratio of the medians, 5
    assert one.spreads.ratio == (7.5, 15)


@pytest.mark.parametrize("ours", [[0.0], [-1.0], [float("nan")], [], [1.0, 2.0, 3.0]])
def test_what_has_no_ratio_is_refused(ours: list[float]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (NumPy words one of them)
        of_values("x", ours, [1.0, 2.0], 1, "ms")


@pytest.mark.parametrize(("ratio", "falls"), [(6.7, False), (6.6, True), (30.0, False)])
def test_the_guard_fails_when_a_ratio_falls_by_more_than_a_third(ratio: float, falls: bool) -> None:
    outcomes = {"regions": [figure("steady", 5.0), figure("x", ratio)]}
    found = speed.failures(outcomes, recorded(x=10.0, steady=5.0))
    assert [failure.name for failure in found] == ["x"] * falls


def test_a_recorded_figure_must_be_measured_but_may_be_skipped() -> None:
    record = recorded(x=10.0, gpu=3.0)
    found = speed.failures({"regions": [Skipped("gpu", "no GPU")]}, record)
    assert [failure.name for failure in found] == ["x"]
    assert not speed.failures({"imaging": []}, record)


def test_a_figure_that_nobody_recorded_fails() -> None:
    outcomes: speed.Outcomes = {
        "regions": [figure("x", 10.0), figure("new", 10.0), Skipped("gpu", "no GPU")]
    }
    assert [each.name for each in speed.failures(outcomes, recorded(x=10.0))] == ["new"]


def test_a_topic_that_fails_when_measured_again_is_no_excuse() -> None:
    broken = speed.Failure("regions", "topic regions", "could not be measured")
    first = {"regions": [figure("x", 1.0)]}
    assert speed.lasting_failures(first, recorded(x=10.0), lambda _: ({}, [broken])) == [broken]


@pytest.mark.parametrize(("second", "lasts"), [(10.0, False), (1.0, True)])
def test_only_what_fails_twice_is_a_failure(second: float, lasts: bool) -> None:
    asked: list[Sequence[str]] = []

    def again(topics: Sequence[str]) -> tuple[speed.Outcomes, list[speed.Failure]]:
        asked.append(topics)
        return {"regions": [figure("x", second), figure("y", 1.0)]}, []

    first = {"regions": [figure("x", 1.0), figure("y", 10.0)], "imaging": []}
    found = speed.lasting_failures(first, recorded(x=10.0, y=10.0), again)
    assert [failure.name for failure in found] == ["x"] * lasts
    assert asked == [["regions"]]


def test_nothing_is_measured_again_without_need() -> None:
    def again(topics: Sequence[str]) -> tuple[speed.Outcomes, list[speed.Failure]]:
        raise AssertionError(topics)

    assert not speed.lasting_failures({"regions": [figure("x", 9.0)]}, recorded(x=10.0), again)


def test_what_was_not_measured_stays_as_it_was_recorded() -> None:
    former = recorded(old=2.0, gpu=3.0)
    former.append({**former[0], "name": "plane", "topic": "imaging"})
    outcomes: speed.Outcomes = {"regions": [figure("new", 4.0), Skipped("gpu", "no GPU")]}
    kept = speed.records(outcomes, former, "another machine")
    assert [(each["name"], each["measured_on"]) for each in kept] == [
        ("plane", "a machine"),
        ("new", "another machine"),
        ("gpu", "a machine"),
    ]


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replaces the figures of a topic by others; an exception among them is raised."""

    def replace_by(*outcomes: Outcome | Exception, topic: str = "regions") -> None:
        def figures(quick: bool) -> Iterator[Outcome]:
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    raise outcome
                yield outcome

        module = ModuleType(f"speed_{topic}")
        vars(module)["figures"] = figures
        monkeypatch.setitem(sys.modules, f"speed_{topic}", module)

    monkeypatch.setattr(speed, "_one_thread", lambda: None)
    return replace_by


def test_from_the_command_line(
    topic: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    topic(figure("x", 10.0), figure("y", 1 / 3), Skipped("gpu", "no GPU"))
    assert speed.main(["regions", "--output", str(file)]) == 0
    written: list[dict[str, Any]] = json.loads(file.read_text())
    assert [each["name"] for each in written] == ["x", "y"]
    for each in written:
        assert {"ours", "reference", "ratio", "at_least", "spreads", "unit", "note"} <= set(each)
    assert written[1]["ratio"] == 0.3333
    printed = capsys.readouterr().out
    assert "skipped: no GPU" in printed
    assert max(map(len, printed.splitlines())) <= 110

    assert speed.main(["regions", "--check", str(file)]) == 0
    topic(figure("x", 6.0), figure("y", 1 / 3), Skipped("gpu", "no GPU"))
    assert speed.main(["regions", "--check", str(file)]) == 1
    assert capsys.readouterr().err.strip().endswith("x: ratio 6, recorded was 10")


def test_a_topic_that_raises_is_named_and_the_others_are_recorded(
    topic: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.json"
    topic(figure("half", 2.0), figure("x", 3.0))
    speed.main(["regions", "--output", str(file)])
    topic(figure("half", 9.0), RuntimeError("no such luck"))
    topic(figure("y", 4.0), topic="vector")
    assert speed.main(["regions", "vector", "--output", str(file)]) == 1
    errors = capsys.readouterr().err.strip().splitlines()
    assert errors[-1] == "topic regions: could not be measured, RuntimeError: no such luck"
    assert {each["name"]: each["ratio"] for each in speed.read(file)} == {"half": 2, "x": 3, "y": 4}


def test_a_page_holds_the_recorded_figures(topic: Callable[..., None], tmp_path: Path) -> None:
    file, page = tmp_path / "results.json", tmp_path / "speed.md"
    page.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n")
    topic(figure("x", 1234.5), figure("y", 0.5))
    speed.main(["regions", "--output", str(file), "--page", str(page)])
    text = page.read_text()
    assert text.startswith("before\n<!-- figures -->\n| what |")
    assert text.endswith("\n<!-- end of figures -->\nafter\n")
    assert "| x | 1 ms | 1,234 ms | 1,234 | 1,234 to 1,234 | 1 |" in text
    assert "| 0.5 (missed) |" in text
    assert "old" not in text


def test_the_page_agrees_with_the_recorded_figures() -> None:
    page = (ROOT / "docs" / "speed.md").read_text()
    recorded = speed.read(ROOT / "benchmarks" / "results.json")
    assert page == speed.filled(page, recorded)
    assert len({each["name"] for each in recorded}) == len(recorded)


def test_every_topic_is_recorded() -> None:
    recorded = speed.read(ROOT / "benchmarks" / "results.json")
    assert {each["topic"] for each in recorded} == set(speed.TOPICS)


def test_an_unknown_topic_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        speed.main(["weather"])
    assert "no topic weather; there are imaging, " in capsys.readouterr().err


def test_the_loops_that_the_region_map_is_compared_with_choose_the_same() -> None:
    regions = speed_regions.half_used(cell_nm=40)
    ours, loops = speed_regions.turn(regions), speed_regions.turn_by_loops(regions)
    for _ in range(5):
        assert ours() == loops()
