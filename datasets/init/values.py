"""What the label maps of a layout hold, and what their values may mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from tqdm import tqdm

from rsseg.images.preprocessing import VOID
from rsseg.images.reading import image_size
from rsseg.segmentation.label_files import (
    Colour,
    has_colours,
    read_label_colours,
    read_label_values,
)
from rsseg.segmentation.labels import LabelDecoder, LabelReading, possible_readings, proven_reading
from rsseg.segmentation.pair_lists import Pair

_LOOKED_AT: Final = 256  # label maps


@dataclass
class Values:
    """The values, or colours, in some label maps.

    Attributes:
        pixels: Number of pixels of each value, or colour.
        is_coloured: Whether they are colours.
        maps: Label maps that were read.
        sizes: Width and height of their images.
    """

    pixels: Counter[int | Colour] = field(default_factory=Counter)
    is_coloured: bool = False
    maps: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    @property
    def present(self) -> list[int | Colour]:
        """The values that occur, sorted."""
        return sorted(self.pixels)

    def share(self, value: int | Colour) -> float:
        """Share of a value in all pixels, 0..1."""
        return self.pixels[value] / max(1, sum(self.pixels.values()))

    @property
    def shorter_side(self) -> int:
        """The median of the images' shorter sides in pixels."""
        return int(np.median([min(size) for size in self.sizes.elements()]))


def measure(pairs: Sequence[Pair]) -> Values:
    """Read the label maps of some samples, spread over all.

    Raises:
        ValueError: If one of them is not a label map; names the file.
        OSError: If a file cannot be opened.
    """
    some = pairs[:: max(1, len(pairs) // _LOOKED_AT)]
    # One that is black alone has no colours, where others have.
    values = Values(is_coloured=any(has_colours(pair.label) for pair in some))
    for pair in tqdm(some, "reading label maps", unit="map", delay=2):
        height, width = image_size(pair.image)
        values.sizes[width, height] += 1
        values.pixels.update(dict(_counted(pair.label, is_coloured=values.is_coloured)))
        values.maps += 1
    return values


def _counted(path: Path, *, is_coloured: bool) -> Iterator[tuple[int | Colour, int]]:
    if is_coloured:
        colours = read_label_colours(path).reshape(-1, 3)
        for colour, count in zip(*np.unique(colours, axis=0, return_counts=True), strict=True):
            red, green, blue = colour.tolist()
            yield (red, green, blue), int(count)
        return
    for value, count in zip(*np.unique(read_label_values(path), return_counts=True), strict=True):
        yield int(value), int(count)


@dataclass(frozen=True)
class Choice:
    """One thing that the label maps may mean.

    Args:
        classes: Number of classes then.
        reading: How their values are read then.
        text: The same in words.
    """

    classes: int
    reading: LabelReading
    text: str

    def absent(self, values: Values) -> list[int]:
        """Return the classes without a pixel in some label maps."""
        decoder = LabelDecoder(self.reading, self.classes)
        present = np.array(values.present, dtype=np.uint16)[np.newaxis]
        labels = decoder.decode(present, where="values")
        return sorted({*range(self.classes)} - {*labels.ravel().tolist()})


def choices(values: Values, classes: int | None) -> list[Choice]:
    """List what the values may mean; one alone is proven, if the number of classes is known.

    Args:
        values: What occurs.
        classes: Number of classes; None where it is not known: of 0..4 and 255, 0 may be a class
            of five or void beside four.
    """
    if values.is_coloured:
        every = list(_of_colours(values))
        return [choice for choice in every if choice.classes == classes] or every
    present = [value for value in values.present if isinstance(value, int)]
    inner = [value for value in present if value != VOID]
    largest = max(inner, default=0)
    if classes and (proven := proven_reading(present, classes)):
        return [Choice(classes, proven, str(LabelDecoder(proven, classes)))]
    numbers = [classes] if classes else sorted({largest + 1, largest, len(inner), 2} - {0, 1})
    numbers = [number for number in numbers if number <= VOID]
    every = [
        Choice(number, reading, text)
        for number in numbers
        for text, reading in possible_readings(present, number).items()
        if classes or _is_plausible(reading, number, present)
    ]
    if all(choice.reading.map for choice in every) and len(present) <= VOID:
        every += [choice for choice in _in_order(present) if classes in (None, choice.classes)]
    unique = {(choice.classes, str(choice.reading)): choice for choice in every}
    return list(unique.values())


def _in_order(present: Sequence[int]) -> Iterator[Choice]:
    """Yield the readings of values that do not follow each other: classes in their order."""
    for void in ((), (0,), (present[-1],)):
        values = [value for value in present if value not in void]
        if len(values) > 1 and {*void} <= {*present}:
            reading = LabelReading(map={v: index for index, v in enumerate(values)}, void=void)
            note = f", {void[0]} is void" if void else ""
            yield Choice(len(values), reading, f"the values in their order{note}")


def _is_plausible(reading: LabelReading, classes: int, present: Sequence[int]) -> bool:
    """Return whether the last class occurs: fewer classes say the same otherwise."""
    if reading.offset is None or {*present} == {0, VOID}:
        return True
    return reading.offset + classes - 1 in present


def _of_colours(values: Values) -> Iterator[Choice]:
    colours = [colour for colour in values.present if isinstance(colour, tuple)]
    yield Choice(len(colours), LabelReading(colours=tuple(colours)), "each colour is a class")
    for void in ((0, 0, 0), (255, 255, 255)):
        rest = tuple(colour for colour in colours if colour != void)
        if void in colours and len(rest) > 1:
            reading = LabelReading(colours=rest, void=(void,))
            yield Choice(len(rest), reading, f"each colour is a class, {list(void)} is void")
