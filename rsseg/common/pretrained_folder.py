"""A folder with config.json and model.safetensors, as hubs of models hold networks.

config.json holds the metadata of a checkpoint and the format; the tensors are those of its network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from rsseg.common.checkpoint import CheckpointError
from rsseg.common.file_kinds import FOLDER_CONFIG, FOLDER_FORMAT, FOLDER_WEIGHTS
from rsseg.common.files import read_json, write_whole, written_whole
from rsseg.common.messages import first_line

State = dict[str, Tensor]


def write_folder(folder: Path, values: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Write the two files into a folder that exists; those that are there are replaced.

    Args:
        folder: The folder.
        values: The metadata, as JSON holds them.
        state: The tensors.

    Raises:
        OSError: If a file cannot be written.
    """
    # Copied: the format holds no two names for one memory, and no gaps.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    with written_whole(folder / FOLDER_WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    text = json.dumps({"format": FOLDER_FORMAT, **values}, indent=1)
    write_whole(folder / FOLDER_CONFIG, text + "\n")


def read_folder(folder: Path) -> tuple[State, dict[str, Any]]:
    """Read the tensors and the metadata of a folder; nothing in it is run.

    Raises:
        CheckpointError: If a file is damaged.
        OSError: If one cannot be read.
    """
    try:
        values = read_json(folder / FOLDER_CONFIG)
        state = load_file(folder / FOLDER_WEIGHTS)
    except OSError:
        raise
    except Exception as error:  # safetensors raises errors of its own.
        raise CheckpointError(f"{folder} is damaged ({first_line(error)}); get it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{folder / FOLDER_CONFIG} does not hold a mapping")
    values.pop("format", None)
    return state, values
