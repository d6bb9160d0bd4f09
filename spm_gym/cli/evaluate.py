"""Compare the agent with baselines on one microscope, episode by episode in turn."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spm_gym.cli import UsageError, run_command
from spm_gym.cli.run_directory import CHECKPOINTS, existing_run
from spm_gym.config import Config, load_config

ARMS = ("agent", "random", "blind", "mask", "oracle", "shuffled")
DEFAULT_ARMS = ("agent", "random", "blind", "oracle")
EPILOG = """arms:
  agent     the trained network, greedy
  random    uniform over the allowed actions
  blind     the best mixture of actions that never looks at the image
  mask      the best mixture that sees the action mask, but not the image
  oracle    the optimum: it reads the simulator's hidden state
  shuffled  the agent, fed images of other moments (a control: it must lose its skill)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--run", type=Path, metavar="DIR", help="default: the newest run")
    source.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="a checkpoint (step_... folder) instead of a run's newest",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="instead of the run's settings")
    parser.add_argument("--env", choices=["sim", "real"], default="sim", help="default: sim")
    parser.add_argument(
        "--arms",
        nargs="+",
        choices=ARMS,
        default=list(DEFAULT_ARMS),
        metavar="ARM",
        help=f"any of {', '.join(ARMS)}; default: {' '.join(DEFAULT_ARMS)}",
    )
    parser.add_argument(
        "--episodes", type=int, default=200, metavar="N", help="of each arm; default: 200"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="default: 1")
    learning = parser.add_mutually_exclusive_group()
    learning.add_argument(
        "--learn",
        action="store_true",
        help="the agent goes on learning at its final epsilon; what it learns is not kept",
    )
    learning.add_argument(
        "--frozen", action="store_true", help="the agent is greedy and stays as it is (default)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the length distributions")
    parser.set_defaults(command=evaluate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of evaluate.py."""
    parser = argparse.ArgumentParser(prog="evaluate.py", description=__doc__)
    add_arguments(parser)
    return run_command(parser, arguments)


def evaluate(arguments: argparse.Namespace) -> int:
    """Play the interleaved episodes and report them."""
    if arguments.env == "real":
        raise UsageError("--env real is not available yet: this version drives the simulator only")
    if arguments.episodes < 1:
        raise UsageError(f"--episodes must be at least 1, not {arguments.episodes}")
    for target in (arguments.json, arguments.plot):
        if target is not None and not target.parent.is_dir():
            raise UsageError(f"there is no folder {target.parent} to write {target.name} into")
    config, checkpoint = _subject(arguments)

    from spm_gym.cli.arms import play

    results = play(
        config, checkpoint, arguments.arms, arguments.episodes, arguments.seed, arguments.learn
    )

    from agents.evaluation import summarise
    from agents.evaluation_plot import plot_lengths

    summary = summarise(results, arguments.seed)
    print(table(summary))
    document = {**summary, "seed": arguments.seed, "config": config.model_dump(mode="json")}
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if arguments.plot:
        plot_lengths(summary, arguments.plot)
    return 0


def table(summary: dict[str, Any]) -> str:
    """Format a summary of `agents.evaluation.summarise` for the terminal."""
    lines = [
        f"{'arm':10} {'episodes':>8} {'actions':>8} {'95 % interval':>16} "
        f"{'success':>8} {'return':>8}"
    ]
    for name, arm in summary["arms"].items():
        low, high = arm["ci95"]
        lines.append(
            f"{name:10} {arm['episodes']:8d} {arm['mean_length']:8.2f} "
            f"{f'{low:.2f} .. {high:.2f}':>16} {arm['success_rate']:8.1%} {arm['mean_return']:8.2f}"
        )
    score = summary["normalised_score"]
    if score is not None and score["value"] is not None:
        low, high = score["ci95"]
        lines.append(
            f"normalised score {score['value']:.3f} ({low:.3f} .. {high:.3f}); "
            "0 is random choice, 1 the optimum"
        )
    return "\n".join(lines)


def _subject(arguments: argparse.Namespace) -> tuple[Config, Path | None]:
    """The settings to evaluate under, and the checkpoint if an arm needs one."""
    if not {"agent", "shuffled"} & set(arguments.arms) and not arguments.run:
        return load_config(arguments.config), None

    from agents.checkpoint import latest_checkpoint

    if arguments.checkpoint is not None:
        checkpoint: Path | None = arguments.checkpoint
        run_of_checkpoint = arguments.checkpoint.resolve().parent.parent
        config = (
            load_config(arguments.config)
            if arguments.config
            else existing_run(run_of_checkpoint)[1]
        )
        return config, checkpoint
    run, config = existing_run(arguments.run)
    checkpoint = latest_checkpoint(run / CHECKPOINTS)
    if checkpoint is None:
        raise UsageError(f"the run {run} has no checkpoint yet: train it first")
    return (load_config(arguments.config) if arguments.config else config), checkpoint
