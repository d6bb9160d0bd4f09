"""Compare the agent with baselines on one microscope, episode by episode in turn."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spm_gym.assembly.drivers import refuse_without_log
from spm_gym.assembly.policy_names import (
    AGENT_POLICIES,
    DEFAULT_POLICIES,
    POLICIES,
    REAL_POLICIES,
    SIMULATOR_POLICIES,
)
from spm_gym.assembly.run_directory import CHECKPOINTS, TRAINING, existing_training, versions
from spm_gym.atomic_file import written_whole
from spm_gym.cli import evaluate_classifier, run_command
from spm_gym.cli.evaluation_table import table
from spm_gym.cli.options import (
    add_config,
    add_force,
    add_log_commands,
    add_set,
    refuse_unwritable,
)
from spm_gym.config import Config, load_config
from spm_gym.errors import UsageError
from spm_gym.paths import display_name

if TYPE_CHECKING:
    from agents.evaluation import Episode
    from agents.stopping import StoppingRule

Results = dict[str, "list[Episode]"]

EPILOG = """policies:
  agent     the trained network, greedy
  random    uniform over the allowed actions
  single    the best single action; where it is not allowed, a random one that is
  blind     the best fixed mixture of actions that does not use the image
  mask      the best fixed mixture that sees the action mask, but not the image
  counting  the best sequence of actions: it counts its steps and does not use the image
  counting-mask   the same, but it sees the action mask; a policy that is better uses the images
  oracle    the optimum: it reads the simulator's hidden state
  shuffled  the agent, fed images of other episodes (a control: it must lose its skill)

'evaluate.py classifier --help' scores a classifier on labelled images instead.

Runs and checkpoints of others hold data: nothing in them is run; but the settings of a run decide
which instrument is used (docs/safety.md, "Files from others").
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
    parser.add_argument(
        "--against",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="further runs whose agents take part, frozen, by the names of their directories",
    )
    add_config(parser, "instead of the run's settings")
    parser.add_argument("--env", choices=["sim", "real"], help="default: the run's")
    add_set(parser, "real.nanonis.host=192.168.1.5")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show every command to the real microscope instead of sending it",
    )
    parser.add_argument(
        "--policies",
        nargs="+",
        choices=POLICIES,
        metavar="POLICY",
        help=f"any of {', '.join(POLICIES)}; default: {' '.join(DEFAULT_POLICIES)}, "
        f"with --env real {' '.join(REAL_POLICIES)}",
    )
    _add_plan(parser)
    _add_learning(parser)
    add_log_commands(parser, "commands.jsonl in the run directory of the evaluation")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw means and survival curves, in actions and seconds",
    )
    add_force(parser)
    parser.set_defaults(command=evaluate)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--episodes",
        type=int,
        default=200,
        metavar="N",
        help="of each policy, with --until-halfwidth at most; default: 200",
    )
    parser.add_argument(
        "--until-halfwidth",
        type=float,
        metavar="W",
        help="end when at two planned analyses in a row the 95 %% interval of the normalised "
        "score (without the oracle: of the share of random choice's actions that the agent saves) "
        "is no wider than +-W; docs/evaluation.md",
    )
    parser.add_argument(
        "--in-turn",
        action="store_true",
        help="policies take turns as they are named, as in the paper, and not in a random order "
        "within every block",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="S",
        help="of the evaluation's world, which is no training's; default: 1",
    )


def _add_learning(parser: argparse.ArgumentParser) -> None:
    learning = parser.add_mutually_exclusive_group()
    learning.add_argument(
        "--learn",
        action="store_true",
        help="the agent goes on learning at its final epsilon; what it learns is not kept",
    )
    learning.add_argument(
        "--frozen", action="store_true", help="the agent is greedy and stays as it is (default)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of evaluate.py."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["classifier"]:
        parser = argparse.ArgumentParser("evaluate.py classifier")
        evaluate_classifier.add_arguments(parser)
        return run_command(parser, given[1:])
    parser = argparse.ArgumentParser(prog="evaluate.py", description=__doc__)
    add_arguments(parser)
    return run_command(parser, given)


def evaluate(arguments: argparse.Namespace) -> int:
    """Play the interleaved episodes and report them."""
    if arguments.episodes < 1:
        raise UsageError(f"--episodes must be at least 1, not {arguments.episodes}")
    # Before the episodes, which may take a night, not after them.
    refuse_unwritable("--json", arguments.json, arguments.force)
    refuse_unwritable("--plot", arguments.plot, arguments.force)
    config, checkpoint, policies = _subject(arguments)
    refuse_without_log(arguments.log_commands, config, arguments.dry_run)
    others = _others(arguments.against)
    policies = [*policies, *others]
    rule = _stopping_rule(arguments, policies)
    if checkpoint is not None:
        print(f"the agent of {checkpoint}")
    for name, other in others.items():
        print(f"{name} is the agent of {other}")
    print(f"the evaluation {rule.text}")  # before the first episode, or it would prove nothing
    from spm_gym.assembly.classifier import fitted_to_classifier
    from spm_gym.assembly.evaluation import play

    config = fitted_to_classifier(config)
    results: Results = {name: [] for name in policies}
    order: list[str] = []
    try:
        play(
            config, checkpoint, others, results, order, rule, arguments.seed, arguments.learn,
            arguments.in_turn, arguments.dry_run, arguments.log_commands,
        )  # fmt: skip
    finally:
        # On an instrument every episode is dear: report what there is, whatever ended it.
        finished = {name: episodes for name, episodes in results.items() if episodes}
        if finished:
            plan = {
                "stopping_rule": rule.document(),
                "ended": rule.ending(results, arguments.seed),
                "order": [
                    order[first : first + len(results)]
                    for first in range(0, len(order), len(results))
                ],
            }
            _report(finished, plan, config, checkpoint, arguments)
    return 0


def _others(runs: Sequence[Path]) -> dict[str, Path]:
    """Find the newest checkpoints of further runs, by names that tell them apart."""
    found: dict[str, Path] = {}
    if not runs:
        return found
    from agents.checkpoint import latest_checkpoint  # torch is slow to import

    for run in runs:
        existing_training(run)
        name, checkpoint = display_name(run), latest_checkpoint(run / CHECKPOINTS)
        if checkpoint is None:
            raise UsageError(f"--against {run}: it has no checkpoint yet: train it first")
        if name in (*POLICIES, *found):
            raise UsageError(f"--against {run}: another policy is called {name!r} already")
        found[name] = checkpoint
    return found


def _stopping_rule(arguments: argparse.Namespace, policies: Sequence[str]) -> StoppingRule:
    from agents.stopping import StoppingRule

    if arguments.until_halfwidth is None:
        return StoppingRule(arguments.episodes)
    try:
        return StoppingRule.of(policies, arguments.episodes, arguments.until_halfwidth)
    except ValueError as error:
        raise UsageError(f"--until-halfwidth: {error}") from error


def _report(
    results: Results,
    plan: dict[str, Any],
    config: Config,
    checkpoint: Path | None,
    arguments: argparse.Namespace,
) -> None:
    from agents.evaluation import summarise
    from spm_gym.figures.evaluation import plot_lengths

    summary = summarise(results, arguments.seed)
    print(table(summary))
    if arguments.json:
        document = {
            **plan,
            **summary,
            "run": None if checkpoint is None else str(checkpoint.resolve().parent.parent),
            "checkpoint": None if checkpoint is None else str(checkpoint.resolve()),
            "versions": versions(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": arguments.seed,
            "learning": bool(arguments.learn),
            "config": config.model_dump(mode="json"),
        }
        # NaN is no JSON: other programs would refuse the whole file.
        text = json.dumps(document, indent=1, allow_nan=False)
        with written_whole(arguments.json) as beside:
            beside.write_text(text + "\n", encoding="utf-8")
    if arguments.plot:
        with written_whole(arguments.plot) as beside:
            plot_lengths(summary, beside)


def _subject(arguments: argparse.Namespace) -> tuple[Config, Path | None, Sequence[str]]:
    """Find the settings to evaluate under, the policies, and the checkpoint if one needs it."""
    changes = list(arguments.set)
    if arguments.env is not None:
        changes.append(f"run.microscope={arguments.env}")
    if (
        arguments.policies is not None
        and not AGENT_POLICIES & set(arguments.policies)
        and not arguments.run
    ):
        config = load_config(arguments.config, changes)
        return config, None, _policies(arguments, config)

    # torch is slow to import, and policies without an agent do without it.
    from agents.checkpoint import latest_checkpoint

    checkpoint: Path | None = arguments.checkpoint
    # A checkpoint lies in RUN_DIR/checkpoints/step_..., and the settings of its run fit it.
    run = checkpoint.resolve().parent.parent if checkpoint is not None else arguments.run
    if checkpoint is None or arguments.config is None:
        run, _ = existing_training(run)
    config = load_config(arguments.config or run / TRAINING, changes)
    if checkpoint is None:
        checkpoint = latest_checkpoint(run / CHECKPOINTS)
        if checkpoint is None:
            raise UsageError(f"the run {run} has no checkpoint yet: train it first")
    return config, checkpoint, _policies(arguments, config)


def _policies(arguments: argparse.Namespace, config: Config) -> Sequence[str]:
    real = config.run.microscope == "real"
    if arguments.dry_run and not real:
        raise UsageError("--dry-run goes with --env real: nothing else sends commands")
    policies: Sequence[str] = arguments.policies or (REAL_POLICIES if real else DEFAULT_POLICIES)
    # Refused, not left out: a table without the policy that was asked for is easily misread.
    simulated = SIMULATOR_POLICIES & set(policies)
    if real and simulated:
        raise UsageError(
            f"the policy {sorted(simulated)[0]!r} is computed from the simulator: it cannot take "
            "part with --env real"
        )
    return policies
