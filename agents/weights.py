"""Files of an agent's weights, with the settings that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from safetensors import SafetensorError, safe_open
from stable_baselines3.common.type_aliases import GymEnv
from torch import Tensor

from agents.double_dqn import DoubleDQN
from agents.network_file import write_network
from agents.vgg import VGG, check_finite_output, check_fit
from spm_gym.config import AgentConfig, NetworkConfig
from spm_gym.config.json_file import parse_json
from spm_gym.imaging.normalisation import HALF_MOLECULE, HeightScale, checked_scale
from spm_gym.plain_state import StateError, restored

FORMAT = "spm-gym agent 1"


class AgentFileError(ValueError):
    """A file of an agent's weights does not fit; the message says why."""


@dataclass(frozen=True, slots=True)
class About:
    """Metadata of a file of an agent's weights.

    Attributes:
        format: `FORMAT`.
        network: Network that the weights belong to.
        actions: Names of the actions, in the order of the outputs.
        pixels: Side of the input images.
        steps: Number of actions in training.
        height_scale: Unit of the input images, as in `spm_gym.imaging.normalise`; the fixed one in
            files of before it was written.
    """

    format: str
    network: NetworkConfig
    actions: tuple[str, ...]
    pixels: Annotated[int, Field(ge=1)]
    steps: Annotated[int, Field(ge=0)]
    height_scale: Annotated[HeightScale, AfterValidator(checked_scale)] = HALF_MOLECULE


def save_weights(
    model: DoubleDQN,
    actions: Sequence[str],
    path: Path,
    height_scale: HeightScale = HALF_MOLECULE,
) -> None:
    """Write the weights of a trained agent with their metadata; whole or not at all."""
    network = model.config.network
    about = {
        "format": FORMAT,
        "network": network.model_dump(mode="json"),
        "actions": list(actions),
        "pixels": model.pixels,
        "steps": model.num_timesteps,
        "height_scale": height_scale,
    }
    write_network(model.q_net.state_dict(), about, path)


def format_of_file(path: Path) -> str:
    """Read the name of the format of a file of weights; empty if it has none.

    Raises:
        AgentFileError: It cannot be read.
    """
    return str(_read(path, weights=False)[0].get("format", ""))


def read_file(path: Path) -> tuple[About, dict[str, Tensor]]:
    """Read metadata and weights of a file that `save_weights` wrote.

    Raises:
        AgentFileError: Unreadable, or another kind of file.
    """
    about, state = _read(path, weights=True)
    if "format" not in about:
        raise AgentFileError(
            f"{path} is not an agent written by this project: it does not say what it is"
        )
    if about["format"] != FORMAT:
        raise AgentFileError(f"{path} has the format {about['format']!r}, not {FORMAT!r}")
    try:
        return restored(About, about), state
    except StateError as error:
        raise AgentFileError(f"{path} is not an agent written by this project: {error}") from error


def weights_network(path: Path, about: About, state: dict[str, Tensor]) -> VGG:
    """Build the network of a file of weights.

    Raises:
        AgentFileError: The weights are not those of the network in the metadata.
    """
    weights = {key.removeprefix("q_net."): value for key, value in state.items()}
    try:
        return VGG.of_file(about.network, len(about.actions), about.pixels, weights)
    except ValueError as error:
        raise AgentFileError(f"{path} is not an agent written by this project: {error}") from error


def _read(path: Path, weights: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = parse_json((file.metadata() or {}).get("about", "{}"))
            # The metadata alone are read without the tensors, which may be large.
            keys = file.keys() if weights else ()
            state = {key: file.get_tensor(key) for key in keys}
    except (OSError, RecursionError, SafetensorError, ValueError) as error:
        raise AgentFileError(
            f"{path} is not a file of weights, and so not an agent: {error}"
        ) from error
    return dict(about) if isinstance(about, dict) else {}, state


def load_weights(
    path: Path, env: GymEnv, config: AgentConfig, actions: Sequence[str], seed: int
) -> DoubleDQN:
    """Build an agent with these weights, at the end of its training schedules.

    Args:
        path: A file that `save_weights` wrote.
        env: The environment to act in.
        config: Settings for further learning; the network must be that of the file.
        actions: Names of the environment's actions.
        seed: Of further random choices.

    Raises:
        AgentFileError: Unreadable, for another network or other actions, or not finite.
    """
    model = DoubleDQN(env, config, seed=seed)
    about, state = read_file(path)
    # Compared by name, too: outputs in another order would choose other actions unnoticed.
    required = {"network": config.network, "actions": tuple(actions), "pixels": model.pixels}
    for name, value in required.items():
        if (other := getattr(about, name)) != value:
            raise AgentFileError(
                f"the agent {path} has {name} {other}, the settings have {value}: train "
                "one with these settings (train.py) and name its run with --agent, or use "
                "--policy random"
            )
    try:
        check_fit(model.q_net, state)
    except ValueError as error:
        raise AgentFileError(f"{path} is not an agent written by this project: {error}") from error
    model.q_net.load_state_dict(state)
    # The file has one network: the target network starts as its copy, as after an update.
    model.q_net_target.load_state_dict(state)
    check_finite_output(
        model.q_net, model.pixels, lambda why: AgentFileError(f"the agent {path} is broken: {why}")
    )
    model.skip_training()
    return model
