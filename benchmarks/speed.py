"""Every figure of speed beside its reference, measured in the same run, in one table.

``python benchmarks/speed.py`` measures all topics, ``--quick`` takes fewer samples, ``--output``
records the figures in a file, and ``--page`` sets the table of docs/speed.md from that file.
``--check`` is the guard: a quick run that ends with status 1 if a ratio has fallen by more than a
third since it was recorded, or if other figures are measured than are recorded. A topic that raises
an exception ends any run with status 1, after the others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import textwrap
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, cast

from measure import Figure, Outcome
from tqdm import tqdm

TOPICS = ("imaging", "regions", "simulator", "vector", "learning")
KEPT = 2 / 3
"""Share of a recorded ratio that the guard asks for."""

WIDTH, NAME_WIDTH = 110, 44
DIGITS = 4
PAGE_MARKS = "<!-- figures -->", "<!-- end of figures -->"

Record = dict[str, Any]
Outcomes = Mapping[str, Sequence[Outcome]]


@dataclass(frozen=True, slots=True)
class Failure:
    """A figure that is not what was recorded, or a topic that could not be measured."""

    topic: str
    name: str
    what: str


Measure = Callable[[Sequence[str]], tuple[Outcomes, list[Failure]]]


def measure(topics: Sequence[str], quick: bool) -> tuple[Outcomes, list[Failure]]:
    """Measure the figures of some topics, with a progress bar.

    Returns:
        The figures, and the topics that raised an exception: these have no figures at all.
    """
    outcomes: dict[str, list[Outcome]] = {}
    failed = []
    with tqdm(unit="figure", mininterval=1, leave=False) as bar:
        for topic in topics:
            bar.set_description(topic)
            measured: list[Outcome] = []
            try:
                for outcome in import_module(f"speed_{topic}").figures(quick):
                    measured.append(outcome)
                    bar.update()
            except Exception as error:
                traceback.print_exc()
                what = f"could not be measured, {type(error).__name__}: {error}"
                failed.append(Failure(topic, f"topic {topic}", what))
            else:
                outcomes[topic] = measured
    return outcomes, failed


def failures(outcomes: Outcomes, recorded: Sequence[Record]) -> list[Failure]:
    """Compare with recorded figures: which have fallen by more than a third, are missing or new?

    Figures that were skipped, and those of topics that were not measured, are passed over.
    """
    known = {(record["topic"], record["name"]) for record in recorded}
    found = [
        Failure(topic, outcome.name, "was measured but is not recorded")
        for topic, measured in outcomes.items()
        for outcome in measured
        if isinstance(outcome, Figure) and (topic, outcome.name) not in known
    ]
    for record in recorded:
        topic, name, ratio = record["topic"], record["name"], record["ratio"]
        if topic not in outcomes:
            continue
        outcome = next((each for each in outcomes[topic] if each.name == name), None)
        if outcome is None:
            found.append(Failure(topic, name, "is recorded but was not measured"))
        elif isinstance(outcome, Figure) and outcome.ratio < KEPT * ratio:
            what = f"ratio {_number(outcome.ratio)}, recorded was {_number(ratio)}"
            found.append(Failure(topic, name, what))
    return found


def lasting_failures(
    outcomes: Outcomes, recorded: Sequence[Record], measure_again: Measure
) -> list[Failure]:
    """Find failures that a second measurement confirms: the first may have been noise."""
    first = failures(outcomes, recorded)
    if not first:
        return []
    names = {failure.name for failure in first}
    second, failed = measure_again(sorted({failure.topic for failure in first}))
    return failed + [each for each in failures(second, recorded) if each.name in names]


def records(outcomes: Outcomes, former: Sequence[Record], measured_on: str) -> list[Record]:
    """Make the records for a file; figures that were not measured keep their former record."""
    by_name = {record["name"]: record for record in former}
    result = []
    for topic in TOPICS:
        if topic not in outcomes:
            result += [record for record in former if record["topic"] == topic]
            continue
        for outcome in outcomes[topic]:
            if isinstance(outcome, Figure):
                new = {"topic": topic, **asdict(outcome), "measured_on": measured_on}
                result.append(_rounded(new))
            elif outcome.name in by_name:
                result.append(by_name[outcome.name])
    return result


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, tuple) else value


def machine() -> str:
    """Name processor and versions, on which the figures depend."""
    versions = [f"{name} {metadata.version(name)}" for name in ("numpy", "numba", "torch")]
    python = f"Python {platform.python_version()}"
    return ", ".join([_processor(), f"{os.cpu_count()} cores", python, *versions])


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def table(outcomes: Outcomes) -> str:
    """Format the figures for a terminal of 110 columns, notes below."""
    head = ("", "ours", "reference", "ratio (quartiles)", "at least", "reached")
    lines = [_line(head), "-" * WIDTH]
    notes = []
    for outcome in (each for topic in outcomes.values() for each in topic):
        first, *rest = textwrap.wrap(outcome.name, NAME_WIDTH)
        cells = _cells(outcome) if isinstance(outcome, Figure) else (f"skipped: {outcome.why}",)
        lines += [_line((first, *cells)), *(f"  {more}" for more in rest)]
        if isinstance(outcome, Figure) and outcome.note:
            notes.append(textwrap.fill(f"{outcome.name}: {outcome.note}", WIDTH))
    return "\n".join([*lines, "", *notes]).rstrip()


def _line(cells: Sequence[str]) -> str:
    if len(cells) == 2:
        return f"{cells[0]:{NAME_WIDTH}}  {cells[1]}"
    name, ours, reference, ratio, at_least, reached = cells
    row = f"{name:{NAME_WIDTH}} {ours:>12} {reference:>12} {ratio:>20} {at_least:>9} {reached:>8}"
    return row.rstrip()


def _cells(figure: Figure) -> tuple[str, ...]:
    low, high = figure.spreads.ratio
    return (
        f"{_number(figure.ours)} {figure.unit}",
        f"{_number(figure.reference)} {figure.unit}",
        f"{_number(figure.ratio)} ({_number(low)}-{_number(high)})",
        _number(figure.at_least),
        "yes" if figure.reached else "NO",
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(recorded: Sequence[Record]) -> str:
    """Format the recorded figures for docs/speed.md."""
    lines = [
        "| what | ours | reference | ratio | quartiles | at least |",
        "|---|---|---|---|---|---|",
    ]
    for record in recorded:
        unit, (low, high) = record["unit"], record["spreads"]["ratio"]
        ratio = _number(record["ratio"]) + (
            "" if record["ratio"] >= record["at_least"] else " (missed)"
        )
        cells = (
            record["name"],
            f"{_number(record['ours'])} {unit}",
            f"{_number(record['reference'])} {unit}",
            ratio,
            f"{_number(low)} to {_number(high)}",
            _number(record["at_least"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"- {each['name']}: {each['note']}" for each in recorded if each["note"]]
    machines = sorted({record["measured_on"] for record in recorded})
    return "\n".join([*lines, "", *notes, "", *(f"Measured on {each}." for each in machines)])


def filled(page: str, recorded: Sequence[Record]) -> str:
    """Put the recorded figures into a page, between its two marks."""
    before, rest = page.split(PAGE_MARKS[0])
    after = rest.split(PAGE_MARKS[1])[1]
    return f"{before}{PAGE_MARKS[0]}\n{markdown(recorded)}\n{PAGE_MARKS[1]}{after}"


def read(path: Path) -> list[Record]:
    """Read recorded figures."""
    return cast(list[Record], json.loads(path.read_text()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, record or compare; returns the exit status."""
    options = _options(arguments)
    _one_thread()
    recorded = read(options.check) if options.check else None
    quick = options.quick or options.check is not None
    print(machine())
    outcomes, found = measure(options.topics or TOPICS, quick)
    print(table(outcomes))
    if options.output:
        _record(outcomes, options.output, options.page)
    if recorded is not None:
        found += lasting_failures(outcomes, recorded, lambda again: measure(again, quick))
    for failure in found:
        print(f"{failure.name}: {failure.what}", file=sys.stderr)
    return 1 if found else 0


def _record(outcomes: Outcomes, output: Path, page: Path | None) -> None:
    former = read(output) if output.exists() else []
    recorded = records(outcomes, former, machine())
    output.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
    if page:
        page.write_text(filled(page.read_text(), recorded))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("topics", nargs="*", help=f"some of {', '.join(TOPICS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer samples, the same figures")
    parser.add_argument("--output", type=Path, help="file to record the figures in")
    parser.add_argument("--check", type=Path, help="recorded figures that must be borne out")
    parser.add_argument("--page", type=Path, help="page whose table is made of that file")
    options = parser.parse_args(arguments)
    if options.page and not options.output:
        parser.error("--page needs --output")
    if options.check and not options.check.is_file():
        parser.error(f"--check {options.check}: there is no such file")
    if options.output and not options.output.parent.is_dir():
        parser.error(f"--output {options.output}: there is no such folder")
    if unknown := set(options.topics) - set(TOPICS):
        parser.error(f"no topic {', '.join(sorted(unknown))}; there are {', '.join(TOPICS)}")
    return options


def _one_thread() -> None:
    """Allow one thread in this process and in those it starts."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    # Imported here, for it brings torch, which is not needed to print a table.
    from spm_gym.assembly.process import limit_threads

    limit_threads(1)


if __name__ == "__main__":
    sys.exit(main())
