"""Learning curves of agents, and policies that do not learn, at equal price.

    python benchmarks/learning.py --json learning.json --plot learning.png

Every agent learns on a simulated microscope of its own, with the same settings, seeds and number of
actions. After some numbers of actions it is evaluated, frozen and greedy, on another microscope, in
turns with random choice and the oracle. Reported are the three prices of an episode (actions,
seconds of the instrument, seconds of the processor), the normalised score in actions and in
seconds, and what learning has cost by then, damaging resets included and also apart.

Figures of an agent and a seed are kept in the JSON file as soon as they are known: the same command
goes on where an interrupted one has stopped, and does more agents or more seeds later.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import joblib
import numpy as np
from learners import LEARNERS
from learning_report import curves, plot, prices
from scoring import evaluate
from tqdm import tqdm

from spm_gym.assembly.environment import make_env, measured
from spm_gym.assembly.evaluation import baseline_policy
from spm_gym.assembly.policy_names import AGENT_POLICIES, POLICIES
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.run_directory import versions
from spm_gym.atomic_file import written_whole
from spm_gym.cli import run_command
from spm_gym.cli.options import add_config, add_set, refuse_unwritable
from spm_gym.config import Config, load_config
from spm_gym.config.json_file import JsonError, read_json
from spm_gym.envs.hidden_process import HiddenProcess
from spm_gym.envs.optimum import reference_process
from spm_gym.errors import UsageError

BASELINES = tuple(name for name in POLICIES if name not in AGENT_POLICIES)
AGENTS = (*BASELINES, *LEARNERS)

_DRAWS = 3
"""Sets the draws of policies that do not learn apart from those of the evaluation."""


@dataclass(frozen=True)
class Plan:
    """Settings that all agents share.

    Attributes:
        config: Of simulator, environment and double DQN.
        stages: Numbers of actions after which an agent is evaluated; the last is the budget.
        episodes: Of each policy in an evaluation.
        progress: Whether to show the actions of learning.
    """

    config: Config
    stages: tuple[int, ...]
    episodes: int
    progress: bool


@dataclass
class Spent:
    """Price of learning so far; resets are part of the seconds."""

    actions: int = 0
    instrument_seconds: float = 0.0
    reset_seconds: float = 0.0
    reset_actions: int = 0
    cpu_seconds: float = 0.0


class Account(gym.Wrapper[Any, Any, Any, Any]):
    """Adds up what is spent in an environment from `measured`, and on the processor."""

    def __init__(self, env: gym.Env[Any, Any], on_action: Callable[[], object]) -> None:
        super().__init__(env)
        self._spent, self._since = Spent(), 0.0
        self._on_action = on_action

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Reset, and pay for the damage."""
        observation, info = super().reset(**options)
        self._spent.reset_seconds += info["reset_seconds"]
        self._spent.reset_actions += info["reset_actions"]
        self._spent.instrument_seconds = info["instrument_seconds"]
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and pay for the action and its image."""
        outcome = super().step(action)
        self._spent.actions += 1
        self._spent.instrument_seconds = outcome[-1]["instrument_seconds"]
        self._on_action()
        return outcome

    def go_on(self) -> None:
        """Count the time of the processor from here on."""
        self._since = time.process_time()

    def paused(self) -> Spent:
        """Stop counting the time of the processor, and give what was spent so far."""
        self._spent.cpu_seconds += time.process_time() - self._since
        return self._spent


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not in the JSON file yet, print the tables, draw the curves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--budget",
        type=whole_number(1),
        default=5360,
        metavar="STEPS",
        help="actions; default: 5360",
    )
    parser.add_argument(
        "--at", type=whole_number(0), nargs="+", default=[100, 300, 1500], metavar="STEPS",
        help="evaluate after as many actions, too, if the budget allows; default: 100 300 1500",
    )  # fmt: skip
    parser.add_argument("--seeds", type=whole_number(1), default=3, metavar="N", help="default: 3")
    parser.add_argument("--first-seed", type=whole_number(0), default=0, metavar="S")
    parser.add_argument(
        "--agents", nargs="+", choices=AGENTS, default=AGENTS, metavar="AGENT",
        help=f"any of {', '.join(AGENTS)}; default: all",
    )  # fmt: skip
    parser.add_argument(
        "--episodes", type=whole_number(1), default=200, metavar="N",
        help="of each policy in an evaluation; default: 200",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=whole_number(1), default=1, metavar="N", help="agents at a time; default: 1"
    )
    add_config(parser)
    add_set(parser, "simulator.mode=linear")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the learning curves")
    parser.set_defaults(command=compare)
    return run_command(parser, arguments)


def whole_number(least: int) -> Callable[[str], int]:
    """Make a parser of whole numbers from this one up."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"a whole number from {least} up is needed, not {text!r}"
            )
        return int(text)

    return parse


def compare(arguments: argparse.Namespace) -> int:
    """Do what the command line asks for."""
    for option, path in (("--json", arguments.json), ("--plot", arguments.plot)):
        refuse_unwritable(option, path, force=True)
    stages = sorted({*(at for at in arguments.at if at < arguments.budget), arguments.budget})
    plan = Plan(
        load_config(arguments.config, arguments.set), tuple(stages), arguments.episodes,
        progress=arguments.jobs == 1,
    )  # fmt: skip
    own = {
        "stages": list(plan.stages),
        "episodes": plan.episodes,
        "config": plan.config.model_dump(mode="json"),
    }
    document = begin(own, arguments.json)
    results = document["results"]
    done = {(result["agent"], result["seed"]) for result in results}
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    # All agents of a seed before the next one: what is there early is a comparison already.
    agents = dict.fromkeys(arguments.agents)
    due = [(agent, seed) for seed in seeds for agent in agents if (agent, seed) not in done]
    workers = joblib.Parallel(arguments.jobs, return_as="generator_unordered")
    found = workers(joblib.delayed(measure)(agent, seed, plan) for agent, seed in due)
    for result in tqdm(found, "agents", len(due), unit="agent", disable=not due):
        results.append(result)
        keep(document, arguments.json)
    print(curves(results, AGENTS), prices(results, AGENTS), sep="\n\n")
    if arguments.plot is not None:
        with written_whole(arguments.plot) as beside:
            plot(results, AGENTS, beside)
    return 0


def begin(settings: dict[str, Any], path: Path | None) -> dict[str, Any]:
    """Read the figures that were kept with the same settings, or begin without any.

    Raises:
        UsageError: The file has others, or is none of this program.
    """
    own = settings | {"versions": versions()}
    if path is None or not path.exists():
        return own | {"results": []}
    try:
        kept = read_json(path)
    except JsonError as error:
        raise UsageError(f"--json {path}: {error}; name another file") from error
    if not isinstance(kept, dict) or not isinstance(kept.get("results"), list):
        raise UsageError(f"--json {path} has no figures of this program: name another file")
    for key in own:
        # Of other settings, figures side by side would not be a comparison.
        if kept.get(key) != own[key]:
            raise UsageError(f"--json {path} was not made with the same {key}: name another file")
    return kept


def keep(document: dict[str, Any], path: Path | None) -> None:
    """Write all figures so far."""
    if path is not None:
        with written_whole(path) as beside:
            beside.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")


def measure(agent: str, seed: int, plan: Plan) -> dict[str, Any]:
    """Let an agent learn, if it does, and evaluate it at every stage.

    Returns:
        ``agent``, ``seed`` and ``evaluations``: each the figures of `agents.evaluation.summarise`,
        with the ``stage`` and what was ``spent`` on learning.
    """
    prepare_process(1)
    process = reference_process(plan.config)
    if agent in LEARNERS:
        evaluations = learning_curve(agent, seed, plan, process)
    else:
        env = make_env(plan.config)
        policy = baseline_policy(agent, process, env, np.random.default_rng([_DRAWS, seed]))
        figures = evaluate(env, policy, process, plan.episodes, seed)
        evaluations = [{"stage": 0, "spent": asdict(Spent())} | figures]
    return {"agent": agent, "seed": seed, "evaluations": evaluations}


def learning_curve(
    agent: str, seed: int, plan: Plan, process: HiddenProcess
) -> list[dict[str, Any]]:
    """Let an agent learn; gives its evaluations, see `measure`."""
    evaluations: list[dict[str, Any]] = []
    with tqdm(
        desc=f"{agent}, seed {seed}", total=plan.stages[-1], unit="action", mininterval=1,
        leave=False, disable=not plan.progress,
    ) as bar:  # fmt: skip
        account = Account(measured(make_env(plan.config)), bar.update)
        learner = LEARNERS[agent](plan.config, account, seed, plan.stages[-1])

        def pause(stage: int) -> None:
            spent = asdict(account.paused())
            figures = evaluate(make_env(plan.config), learner.policy, process, plan.episodes, seed)
            evaluations.append({"stage": stage, "spent": spent} | figures)
            account.go_on()

        account.go_on()
        learner.learn(plan.stages, pause)
    return evaluations


if __name__ == "__main__":
    sys.exit(main())
