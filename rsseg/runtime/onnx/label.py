"""What an exported file says about itself: to our readers as JSON, to all others in plain words.

Source: https://github.com/onnx/onnx/blob/main/docs/MetadataProps.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from rsseg.common.config import plain
from rsseg.common.messages import counted
from rsseg.runtime.description import KEY, Description
from rsseg.runtime.onnx.executor import INPUT, OUTPUT

_PRODUCER: Final = "rsseg"
_BRANCHES: Final = (
    "All resolutions share their weights, in branches (If) that take them from the graph around. "
    "Tools that fold or quantise weights see one branch at a time and store them for each, as does "
    "onnxslim with any option; OpenCV computes branches wrongly: give them a file of `rsseg export "
    "--compact` or `--resolution R`; for 8 bits: `--int8`."
)
# Of statistics of each image; Sqrt is a part of those that become several nodes.
_NORMS: Final = frozenset(
    (
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "RMSNormalization",
        "Sqrt",
    )
)


def label(model: Any, description: Description) -> None:
    """Write producer, doc string and metadata into an `onnx.ModelProto`, and nothing else of it."""
    model.producer_name, model.producer_version = _PRODUCER, _version()
    model.doc_string = "\n".join(_sentences(model, description))
    del model.metadata_props[:]
    for key, value in _entries(description).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def _version() -> str:
    try:
        return version("rsseg")
    except PackageNotFoundError:  # run from a checkout
        return ""


def _entries(description: Description) -> dict[str, str]:
    """Return the metadata: all of it as JSON, and what every user needs as plain text."""
    preprocessing = description.preprocessing
    return {
        KEY: json.dumps(plain(description)),
        "task": description.task,
        "classes": ",".join(name.replace(",", " ") for name in description.classes),
        "resolutions": _joined(description.usable),
        "channels": "RGB",
        "mean": _joined(preprocessing.mean),
        "std": _joined(preprocessing.std),
        "fit": preprocessing.fit,
        "bits": str(description.bits),
    }


def _sentences(model: Any, description: Description) -> Iterator[str]:
    preprocessing = description.preprocessing
    yield f"{description.name}: {description.task}, {counted(len(description.classes), 'class')}."
    yield (
        f"Input '{INPUT}': float32, (N, 3, H, W), RGB; from 0..255: (value / 255 - mean) / std, "
        f"mean {_joined(preprocessing.mean)}, std {_joined(preprocessing.std)}."
    )
    yield f"Output '{OUTPUT}': float32, one channel for each class."
    sides = _joined(description.usable)
    if description.layout == "one":
        yield f"Side of the images in pixels: {sides}."
    else:
        yield f"The shorter side of the images chooses the BatchNorm set; trained: {sides}."
    kinds = set(_kinds(model.graph))
    if description.bits == 8:
        what = "Layers with weights" if kinds & _NORMS else "Weights and activations"
        yield f"{what} have 8 bits (QuantizeLinear, DequantizeLinear)."
        if kinds & _NORMS:
            yield "Norms, attention, activation functions and sums are in floats."
    elif "If" in kinds:
        yield _BRANCHES


def _kinds(graph: Any) -> Iterator[str]:
    """Yield the kinds of the nodes of a graph and of the branches in it."""
    for each in graph.node:
        yield each.op_type
        for attribute in each.attribute:
            if attribute.HasField("g"):
                yield from _kinds(attribute.g)


def _joined(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)
