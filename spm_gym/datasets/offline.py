"""Make an offline reinforcement-learning dataset of the conditioning episodes of a run.

It is in Minari's own format, written by Minari itself. With the environment variable
``MINARI_DATASETS_PATH`` set to the folder, ``minari.load_dataset("probe-conditioning-v0")`` loads
it. Whatever is in ``infos`` has a row for every observation: that of the observation which followed
a step says ``uncertain`` and ``refused`` of that step; the first row says false.
"""

from __future__ import annotations

import copy
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from spm_gym.config import Config, EnvConfig
from spm_gym.datasets.export import Exported, ExportError, make_empty
from spm_gym.envs.observation import allowed_actions
from spm_gym.envs.spaces import spaces
from spm_gym.imaging.observed import read_observed
from spm_gym.journal.reader import read_scan, reading
from spm_gym.journal.rows import (
    config_hashes,
    episode_outcomes,
    scans_of_steps,
    steps_by_episode,
)
from spm_gym.paths import display_name

DATASET = "probe-conditioning-v0"
_ENVIRONMENT = "spm_gym/ProbeConditioning-v0"


@dataclass(frozen=True, slots=True)
class _Episodes:
    """Episodes of a journal; `parts` are unbroken sequences of finished steps."""

    parts: list[list[sqlite3.Row]]
    scans: dict[int, sqlite3.Row]
    left_out: dict[str, int]
    divided: int
    hashes: list[str]


def export_episodes(run: Path, folder: Path, config: Config) -> Exported:
    """Write every finished conditioning episode as the agent saw it, to the last bit.

    An episode in which a step or an image is missing, because the run was stopped in between,
    becomes several; a part that does not end with a good probe is truncated.

    Args:
        run: The run directory; the run may be at work.
        folder: Where to; made if need be.
        config: Settings of the run.

    Raises:
        JournalError: There is no journal.
        FileFormatError: An image is gone or damaged.
        ExportError: Minari is missing, the folder is not empty, there is no finished episode, or
            the settings are not those of the run.
    """
    storage_class, buffer_class = _minari()
    episodes = _read_episodes(run)
    if not episodes.parts:
        raise ExportError(f"{run} has no finished conditioning episode with a finished step")
    _refuse_other_settings(run, config.env, episodes)
    make_empty(folder)
    # Absolute, since Minari joins a relative path to itself.
    with TemporaryDirectory(prefix=".", dir=folder.absolute()) as unfinished:
        dataset = Path(unfinished) / DATASET
        dataset.mkdir()
        storage = storage_class.new(dataset / "data", *spaces(config.env), _env_spec(config))
        storage.update_metadata(_metadata(run, config, episodes))
        with tqdm(episodes.parts, desc="episodes", unit="episode", mininterval=1) as bar:
            storage.update_episodes(
                buffer_class(**_episode(run, part, episodes.scans, config.env)) for part in bar
            )
        # At the end, so that a data set is whole or not there.
        dataset.rename(folder / DATASET)
    return Exported(_written(episodes), episodes.left_out)


def _minari() -> tuple[Any, Any]:
    try:
        import h5py  # noqa: F401 (Minari needs it to store)
        from minari.data_collector import EpisodeBuffer
        from minari.dataset.minari_storage import MinariStorage
    except ModuleNotFoundError as error:
        raise ExportError(
            f"the package {error.name!r} is missing: pip install 'spm-gym[offline]'"
        ) from error
    return MinariStorage, EpisodeBuffer


def _read_episodes(run: Path) -> _Episodes:
    with reading(run) as db:
        outcomes, steps = episode_outcomes(db), steps_by_episode(db)
        scans, hashes = scans_of_steps(db), config_hashes(db)
    finished = [number for number, outcome in outcomes.items() if outcome is not None]
    by_episode: dict[int, list[sqlite3.Row]] = {number: [] for number in finished}
    left_out: Counter[str] = Counter()
    left_out["unfinished episodes"] = len(outcomes) - len(finished)
    # A step without its next image has no outcome: nothing can be learned from it.
    for step in steps:
        if step["episode"] not in by_episode:
            left_out["steps of these"] += 1
        elif step["scan_after"] is None:
            left_out["unfinished steps of finished episodes"] += 1
        else:
            by_episode[step["episode"]].append(step)
    divided = [list(_unbroken(steps)) for steps in by_episode.values()]
    left_out["finished episodes without a finished step"] = sum(not parts for parts in divided)
    return _Episodes(
        parts=[part for parts in divided for part in parts],
        scans=scans,
        left_out=left_out,
        divided=sum(len(parts) > 1 for parts in divided),
        hashes=hashes,
    )


def _refuse_other_settings(run: Path, config: EnvConfig, episodes: _Episodes) -> None:
    """Refuse settings that have been edited since and do not fit what the run has done."""
    names = [action.name for action in config.actions]
    for step in (step for part in episodes.parts for step in part):
        choices, number = len(json.loads(step["mask"])), step["action"]
        if choices != len(names) or names[number] != step["name"]:
            raise ExportError(
                f"{run} was made with other env.actions than its settings have: there "
                f"{step['name']!r} was number {number + 1} of {choices}, and they have "
                f"{', '.join(names)}: put back those of the run"
            )
    for scan in episodes.scans.values():
        if scan["pixels"] != config.pixels:
            raise ExportError(
                f"{run} was made with env.pixels = {scan['pixels']}, and its settings have "
                f"{config.pixels}: put that back"
            )


def _unbroken(steps: Sequence[sqlite3.Row]) -> Iterator[list[sqlite3.Row]]:
    """Divide where a decision does not rest on the image that followed the one before."""
    part: list[sqlite3.Row] = []
    for step in steps:
        if part and part[-1]["scan_after"] != step["scan"]:
            yield part
            part = []
        part.append(step)
    if part:
        yield part


def _episode(
    run: Path, part: list[sqlite3.Row], scans: dict[int, sqlite3.Row], config: EnvConfig
) -> dict[str, Any]:
    """Fill the fields of Minari's episode buffer."""
    scans_used = [scans[part[0]["scan"]], *(scans[step["scan_after"]] for step in part)]
    last_mask = allowed_actions(config, scans_used[-1]["clean_side"])
    terminated = [bool(step["terminated"]) for step in part]
    truncated = [bool(step["truncated"]) for step in part]
    # A part that was cut off by a restart has no end of its own; Minari needs one.
    truncated[-1] = not terminated[-1]
    return {
        "options": {"damage": False},
        "observations": np.stack([_observation(run, scan, config) for scan in scans_used]),
        "actions": np.array([step["action"] for step in part], np.int64),
        "rewards": [step["reward"] for step in part],
        "terminations": terminated,
        "truncations": truncated,
        "infos": {
            "action_mask": np.array([json.loads(s["mask"]) for s in part] + [last_mask.tolist()]),
            "probability": np.array([_probability(scan) for scan in scans_used]),
            "preview": np.array([scan["lines"] < scan["pixels"] for scan in scans_used]),
            "uncertain": np.array([False, *(bool(step["doubtful"]) for step in part)]),
            "refused": np.array([False, *(bool(step["refused"]) for step in part)]),
            "scan": np.array([scan["id"] for scan in scans_used]),
        },
    }


def _observation(run: Path, scan: sqlite3.Row, config: EnvConfig) -> NDArray[np.float32]:
    # Made again from the heights, bit for bit: the journal keeps no observations.
    [observation] = read_observed([read_scan(run, scan)], config).observations
    return np.asarray(observation)


def _probability(scan: sqlite3.Row) -> float | None:
    """Read what the environment's ``info`` had: that of a preview is its own classifier's."""
    known: float | None = scan["preview_probability"]
    return scan["probability"] if known is None else known


def _env_spec(config: Config) -> Any:
    """Describe the environment with the run's settings, as Minari recovers it."""
    spec = copy.deepcopy(gymnasium.spec(_ENVIRONMENT))
    sections = config.model_dump(mode="json", include={"env", "simulator"})
    spec.kwargs = {"overrides": [f"{key}={json.dumps(value)}" for key, value in sections.items()]}
    return spec


def _metadata(run: Path, config: Config, episodes: _Episodes) -> dict[str, Any]:
    version = metadata.version("spm-gym")
    return {
        "dataset_id": DATASET,
        "minari_version": metadata.version("minari"),
        "algorithm_name": config.operation.policy,
        "description": f"Conditioning of a microscope's probe during the run {display_name(run)}",
        # Exactly this one: rewards and levelling are those of the program that made the data.
        "requirements": [f"spm-gym=={version}"],
        "spm_gym_version": version,
        # All of them: settings may have been edited between two sessions of the run.
        "config_sha256": episodes.hashes,
    }


def _written(episodes: _Episodes) -> str:
    steps = sum(map(len, episodes.parts))
    uncertain = sum(bool(step["doubtful"]) for part in episodes.parts for step in part)
    text = f"{len(episodes.parts)} episodes with {steps} steps, {uncertain} of them uncertain"
    if episodes.divided:
        text += f" ({episodes.divided} episodes of the run were interrupted and are divided)"
    return text
