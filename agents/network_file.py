"""Files of a network's weights with metadata that say what it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from spm_gym.atomic_file import written_whole
from spm_gym.config.json_file import parse_json
from spm_gym.errors import one_line


def write_network(weights: Mapping[str, Tensor], about: dict[str, Any], path: Path) -> None:
    """Write weights and metadata of JSON values; the file appears whole or not at all."""
    state = {key: value.contiguous() for key, value in weights.items()}
    with written_whole(path) as beside:
        beside.write_bytes(save(state, metadata={"about": json.dumps(about)}))


def read_network(
    path: Path, form: str, device: torch.device | str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read metadata and weights of a file of this format.

    Raises:
        ValueError: It is of another format; see `refusing` for further errors.
    """
    with safe_open(path, framework="pt", device=str(device)) as file:
        about = parse_json((file.metadata() or {})["about"])
        if not isinstance(about, dict):
            raise ValueError(f"its metadata are a {type(about).__name__}, not an object")
        if about["format"] != form:
            raise ValueError(
                f"its format is {about['format']!r}, not {form!r}: train it again with train.py"
            )
        return about, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


@contextmanager
def refusing(path: Path, kind: str, error: Callable[[str], Exception]) -> Iterator[None]:
    """Turn every error of reading a file into a single one that names it, in one line.

    Args:
        path: The file.
        kind: Name of what it should be, with an article.
        error: Makes the exception from its message.
    """
    try:
        yield
        return
    except KeyError as missing:
        reason = f"its metadata lack {missing}"
    except (OSError, SafetensorError, ValidationError, ValueError) as refusal:
        reason = one_line(refusal)
    except (TypeError, RuntimeError) as refusal:
        reason = f"its weights do not fit its network: {one_line(refusal)}"
    raise error(f"{path} is not {kind} written by this project: {reason}")
