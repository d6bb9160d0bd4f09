"""The results of an evaluation as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from spm_gym.assembly.policy_names import POLICIES


def table(summary: dict[str, Any]) -> str:
    """Format a summary of `agents.evaluation.summarise` for the terminal."""
    policies = summary["policies"]
    known = any(policy["classifier"] is not None for policy in policies.values())
    truth = f" {'truly good':>10} {'precision':>9}" if known else ""
    lines = [
        f"{'policy':13} {'episodes':>8} {'actions':>8} {'95 % interval':>16} {'success':>8}{truth} "
        f"{'return':>8}"
    ]
    for name, policy in policies.items():
        if known:
            precision = policy["classifier"]["precision"]
            excerpt = "-" if precision is None else f"{precision:.1%}"
            truth = f" {policy['truly_good_rate']:10.1%} {excerpt:>9}"
        lines.append(
            f"{name:13} {policy['episodes']:8d} {policy['mean_length']:8.2f} "
            f"{_interval(policy['ci95'], 2):>16} {policy['success_rate']:8.1%}{truth} "
            f"{policy['mean_return']:8.2f}"
        )
    if known:
        lines.append(
            "success is what the classifier called good; precision, how much of that is so"
        )
    lines += _prices(policies)
    return "\n".join([*lines, *_comparisons(summary)])


def _comparisons(summary: dict[str, Any]) -> Iterator[str]:
    """Format what compares the policies, where it is known."""
    for key, text in (
        ("normalised_score", "normalised score {}; 0 is random choice, 1 the optimum"),
        ("saved_share", "of random choice's price the agent saves {}"),
    ):
        figures = ((summary[key], "actions"), (summary[f"{key}_seconds"], "instrument seconds"))
        if values := _values(figures):
            yield text.format(values)
    for name in summary["policies"].keys() - set(POLICIES):
        scores = (
            (summary["policies"][name][key], unit)
            for key, unit in (("normalised_score", "actions"),
                              ("normalised_score_seconds", "instrument seconds"))
        )  # fmt: skip
        if values := _values(scores):
            yield f"normalised score of {name} {values}"
    tests = [f"{p:.2g} in {unit}" for unit, p in summary["logrank"].items() if p is not None]
    if tests:
        yield f"log-rank test of agent against random choice: p = {', '.join(tests)}"
    for unit, restricted in summary["restricted_means"].items():
        if restricted is not None:
            means = (
                f"{name} {mean:.2f} ({_interval(interval, 2)})"
                for name, (mean, interval) in restricted["means"].items()
            )
            yield (
                f"mean {unit} up to {restricted['until']:.4g}, the first at which one was cut "
                f"off: {', '.join(means)}"
            )


def _values(figures: Iterable[tuple[dict[str, Any] | None, str]]) -> str:
    return ", ".join(
        f"{figure['value']:.3f} ({_interval(figure['ci95'], 3)}) in {unit}"
        for figure, unit in figures
        if figure is not None and figure["value"] is not None
    )


def _prices(policies: dict[str, Any]) -> Iterator[str]:
    """Format the seconds of the policies, and their resets."""
    yield (
        f"{'seconds of':13} {'instrument':>10} {'95 % interval':>16} {'CPU':>8} "
        f"{'95 % interval':>16} {'resets':>8} {'95 % interval':>16} {'actions':>8} "
        f"{'95 % interval':>16}"
    )
    for name, policy in policies.items():
        resets = policy["resets"]
        yield (
            f"{name:13} {_mean(policy['mean_seconds'], 1):>10} "
            f"{_interval(policy['seconds_ci95'], 1):>16} "
            f"{_mean(policy['mean_cpu_seconds'], 4):>8} "
            f"{_interval(policy['cpu_seconds_ci95'], 4):>16} "
            f"{_mean(resets['mean_seconds'], 1):>8} {_interval(resets['seconds_ci95'], 1):>16} "
            f"{_mean(resets['mean_actions'], 2):>8} {_interval(resets['actions_ci95'], 2):>16}"
        )
    yield "an episode's seconds are those of its actions and images, of the CPU those of decisions;"
    yield "resets damage the probe before an episode, and are counted apart"


def _mean(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(bounds: Sequence[float] | None, digits: int) -> str:
    if bounds is None:
        return "too few to tell"
    return f"{bounds[0]:.{digits}f} .. {bounds[1]:.{digits}f}"
