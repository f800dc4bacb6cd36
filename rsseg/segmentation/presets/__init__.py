"""Data sets whose layout, label values, names and colours are known: one YAML for each.

A preset holds keys of `DataConfig`, and `classes`, which `model.classes` has to be. It is data: a
new one is a file in this folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from rsseg.common.config import validate
from rsseg.common.messages import check_name
from rsseg.common.yaml_files import read_yaml, set_value
from rsseg.segmentation.labels import LabelReading

FOLDER: Final = Path(__file__).parent


def preset_names() -> list[str]:
    """List the names of the presets."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_preset(name: str) -> dict[str, Any]:
    """Read a preset: keys of `DataConfig`, and `classes`.

    Raises:
        ValueError: If there is none of this name; the message holds the closest.
    """
    check_name("preset", name, preset_names())
    return read_yaml(FOLDER / f"{name}.yaml")


def with_preset(values: dict[str, Any]) -> dict[str, Any]:
    """Return values of `DataConfig` completed by the preset that they name."""
    if not isinstance(values.get("preset"), str):
        return values
    preset = read_preset(values["preset"])
    del preset["classes"]
    # A test set that is chosen otherwise takes the place of the preset's.
    if values.get("test_share") is not None:
        preset.pop("test", None)
    return {**preset, **{key: value for key, value in values.items() if value is not None}}


def parse_reading(text: str, source: str) -> LabelReading:
    """Return a reading of label maps from YAML, or that of a preset from its name.

    Args:
        text: Such as "{offset: 0, void: [255]}", or "camvid".
        source: What names the text in messages.

    Raises:
        ValueError: If it is neither.
    """
    values: dict[str, Any] = {}
    set_value(values, f"{source}={text}")
    reading = values[source]
    if isinstance(reading, str):
        reading = read_preset(reading).get("labels")
    if not isinstance(reading, dict):
        raise ValueError(
            f"{source} expects YAML such as '{{offset: 0, void: [255]}}', got '{text}'"
        )
    return validate(LabelReading, reading, source)
