"""From the values of label maps to classes: stated by the user, or proven by the values.

Label maps of K classes may begin at 0 or at 1; void may be 0, K or 255, or not occur. Read with the
wrong one every class moves, and nothing crashes. So what the files do not prove is refused, with
every possible reading and the line of YAML that chooses it. How a file holds values is decided in
`label_files`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from rsseg.common.config import STRICT
from rsseg.common.messages import counted
from rsseg.images.preprocessing import VOID, LabelMap
from rsseg.segmentation.label_files import (
    Colour,
    Values,
    read_label_colours,
    read_label_values,
    read_palette,
)

Byte = Annotated[int, Field(ge=0, le=255)]
Value = Annotated[int, Field(ge=0, lt=2**16)]
_VALUES: Final = 2**16
_WAYS: Final = ("offset", "map", "colours", "binary")
PROVEN: Final = "proven by the values if every class occurs"
_SCANNED: Final = 64  # label files that detection reads: all of a large data set take minutes


@dataclass(frozen=True, config=STRICT, kw_only=True)
class LabelReading:
    """How the values of label maps become classes: by exactly one of the first four.

    Args:
        offset: Value of the first class; the values of the others follow it.
        map: Class 0..K-1 of each value; several values may be one class.
        colours: Colour of each class, RGB, 0..255, in the order of the classes.
        binary: 0 is the first of two classes, and the one other value that the label maps
            hold, 1 or 255, is the second.
        void: Values (or colours) of pixels without class, or "rest" for all that are no class.

    Raises:
        ValueError: If not exactly one way is given, or `void` does not fit it.
    """

    offset: Value | None = None
    map: dict[Value, Byte] | None = None
    colours: tuple[tuple[Byte, Byte, Byte], ...] | None = None
    binary: bool = False
    void: Literal["rest"] | tuple[Value | tuple[Byte, Byte, Byte], ...] = ()

    @field_validator("void", mode="before")
    @classmethod
    def _as_list(cls, void: object) -> object:
        return (void,) if isinstance(void, int) else () if void is None else void

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in _WAYS}
        ways = [name for name, value in given.items() if value is not None and value is not False]
        if len(ways) != 1:
            raise ValueError(
                f"state exactly one of {', '.join(_WAYS)}, got {' and '.join(ways) or 'none'}"
            )
        if self.void != "rest" and any(
            isinstance(value, tuple) != (self.colours is not None) for value in self.void
        ):
            kind = "values" if self.colours is None else "colours, [[R, G, B], ...]"
            raise ValueError(f"beside {ways[0]}, void lists {kind}")

    def __str__(self) -> str:
        """Return the reading as YAML in one line, without what is not set."""
        values: dict[str, Any] = {name: getattr(self, name) for name in (*_WAYS, "void")}
        values = {k: v for k, v in values.items() if v is not None and v is not False and v != ()}
        values = {k: _lists(v) for k, v in values.items()}
        text: str = yaml.safe_dump(values, default_flow_style=True, width=10**6, sort_keys=False)
        return text.strip()


class LabelDecoder:
    """A reading of the label maps of K classes.

    Args:
        reading: How values become classes.
        classes: Number of classes.

    Raises:
        ValueError: If the two do not fit, or void is also the value of a class.
    """

    def __init__(self, reading: LabelReading, classes: int) -> None:
        self.reading, self.classes = reading, classes
        if fault := _classes_error(reading, classes):
            raise ValueError(fault)
        codes = _codes(reading, classes)
        void = () if reading.void == "rest" else [_code(value) for value in reading.void]
        twice = sorted({*codes} & {*void})
        if twice:
            raise ValueError(
                f"void {_code_text(twice[0], reading)} is also the value of a class "
                f"({self}); a value is one or the other"
            )
        # Sorted: the class of a value is looked up by bisection, whatever the largest value.
        table = sorted({**codes, **dict.fromkeys(void, VOID)}.items())
        self._keys = np.array([key for key, _ in table], dtype=np.int64)
        self._labels = np.array([label for _, label in table], dtype=np.uint8)
        self._byte_labels, self._byte_known = self._byte_table()

    def __str__(self) -> str:
        reading, last = self.reading, self.classes - 1
        if reading.offset is not None:
            values = f"classes {reading.offset}..{reading.offset + last}"
        elif reading.map is not None:
            values = f"classes by map, values {value_ranges(np.unique([*reading.map]))}"
        elif reading.colours is not None:
            values = f"classes by {self.classes} colours"
        else:
            values = "class 0 is 0, class 1 is 1 or 255"
        if reading.void == "rest":
            return f"{values}, void is the rest"
        void = ", ".join(_code_text(_code(value), reading) for value in reading.void)
        return f"{values}, void {void}" if void else f"{values}, no void"

    def read(self, path: Path) -> LabelMap:
        """Read a label file: classes 0..K-1 and 255 for void, shape (H, W).

        Raises:
            ValueError: If the file is not a label file, or a value is neither class nor void.
            OSError: If it cannot be opened.
        """
        if self.reading.colours is None:
            return self.decode(read_label_values(path), where=path)
        return self.decode(read_label_colours(path), where=path)

    def decode(self, values: Values, *, where: object) -> LabelMap:
        """Turn values (H, W), or colours (H, W, 3), into classes 0..K-1 and 255 for void, (H, W).

        Raises:
            ValueError: If a value is neither a class nor void; `where` names the file.
        """
        codes: NDArray[Any] = _joined(values) if values.ndim == 3 else values
        if codes.dtype == np.uint8:  # Most label maps: by a table, not by indices of 8 bytes.
            labels = np.asarray(cv2.LUT(codes, self._byte_labels), dtype=np.uint8)
            valid = np.asarray(cv2.LUT(codes, self._byte_known), dtype=np.uint8).view(np.bool_)
        else:
            places = np.searchsorted(self._keys, codes).clip(max=len(self._keys) - 1)
            valid = self._keys[places] == codes
            labels = np.where(valid, self._labels[places], np.uint8(VOID))
        if self.reading.void != "rest" and not valid.all():
            raise ValueError(self._foreign_message(np.unique(codes[~valid]), codes, where))
        if self.reading.binary and (codes == 1).any() and (codes == VOID).any():
            raise ValueError(
                f"{where}: holds 1 and 255, which labels.binary would make one class; state "
                "which is void: labels: {offset: 0, void: [255]}"
            )
        return labels

    def _byte_table(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return class and validity (0 or 1) of the values 0..255, each of shape (256,)."""
        table, known = np.full(256, VOID, dtype=np.uint8), np.zeros(256, dtype=np.uint8)
        inside = self._keys < 256
        table[self._keys[inside]] = self._labels[inside]
        known[self._keys[inside]] = 1
        return table, known

    def _foreign_message(self, foreign: NDArray[Any], codes: NDArray[Any], where: object) -> str:
        if self.reading.colours is not None:
            texts = [_code_text(int(code), self.reading) for code in foreign[:5]]
            more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
            return (
                f"{where}: holds the colours {', '.join(texts)}{more}, which are neither of a "
                "class nor void; add them to colours or void of data.labels, or set void: rest"
            )
        return (
            f"{where}: holds the values {value_ranges(foreign)} beside {self} (all values: "
            f"{value_ranges(np.unique(codes))}); state in data.labels (--label-reading) what each "
            "value is, by offset or map, and void, and the number of classes"
        )


def _lists(value: Any) -> Any:
    """Return a value with its tuples as lists, as YAML writes them."""
    return [_lists(item) for item in value] if isinstance(value, tuple) else value


def _classes_error(reading: LabelReading, classes: int) -> str | None:
    """Return why a reading does not fit a number of classes, None if it does."""
    if not 1 <= classes <= VOID:
        return f"label maps have 1 to {VOID} classes, got {classes}"
    if reading.offset is not None:
        if reading.offset + classes <= _VALUES:
            return None
        return f"labels.offset {reading.offset} leaves no values for {counted(classes, 'class')}"
    if reading.map is not None:
        return _map_error({*reading.map.values()}, classes)
    if reading.colours is not None:
        return _colours_error(reading.colours, classes)
    return None if classes == 2 else f"labels.binary is for 2 classes, there are {classes}"


def _map_error(mapped: set[int], classes: int) -> str | None:
    if mapped == {*range(classes)}:
        return None
    present = value_ranges(np.array(sorted(mapped), dtype=int))
    return f"labels.map leads to the classes {present}, expected each of 0..{classes - 1}"


def _colours_error(colours: Sequence[Colour], classes: int) -> str | None:
    if len(colours) != classes:
        return f"labels.colours lists {len(colours)} colours for {counted(classes, 'class')}"
    if len({*colours}) != classes:
        return "labels.colours lists a colour twice; each class has one of its own"
    return None


def _codes(reading: LabelReading, classes: int) -> dict[int, int]:
    """Return the class of each value; a colour is a value of 24 bits."""
    if reading.offset is not None:
        return {reading.offset + index: index for index in range(classes)}
    if reading.map is not None:
        return dict(reading.map)
    if reading.colours is not None:
        return {_code(colour): index for index, colour in enumerate(reading.colours)}
    return {0: 0, 1: 1, 255: 1}


def _code(value: int | Colour) -> int:
    return value if isinstance(value, int) else value[0] << 16 | value[1] << 8 | value[2]


def _code_text(code: int, reading: LabelReading) -> str:
    if reading.colours is None:
        return str(code)
    return str([code >> 16, code >> 8 & 255, code & 255])


def _joined(colours: NDArray[Any]) -> NDArray[np.int64]:
    red, green, blue = np.moveaxis(colours.astype(np.int64), -1, 0)
    joined: NDArray[np.int64] = red << 16 | green << 8 | blue
    return joined


def complete_reading(offset: int | None, void: int | None) -> LabelReading:
    """Return the reading of which one value, or both, are known: void is 0 or 255 beside them."""
    if offset is None:
        offset = 1 if void == 0 else 0
    if void is None:
        void = VOID if offset == 0 else 0
    return LabelReading(offset=offset, void=(void,))


def possible_readings(values: Sequence[int], classes: int) -> dict[str, LabelReading]:
    """List the readings that some values of label maps allow, by what they would mean.

    Void is 0, K or 255, 255 beside one of the others, or does not occur. Readings that make the
    same of these values are listed once, and those that make all of them void are left out.

    Args:
        values: Values that occur, each once.
        classes: Number of classes K.
    """
    readings = _readings_with_void_alone(values, classes)
    array = np.array([values])
    return {
        text: reading
        for text, reading in readings.items()
        if (LabelDecoder(reading, classes).decode(array, where="values") != VOID).any()
    }


def _readings_with_void_alone(values: Sequence[int], classes: int) -> dict[str, LabelReading]:
    """List the readings of `possible_readings`, and those under which every value is void."""
    present, last = {*values}, classes - 1
    candidates: dict[str, LabelReading] = {}
    if classes == 2 and present == {0, VOID}:
        candidates["0 and 255 are the two classes"] = LabelReading(binary=True)
    for offset in (0, 1):
        inside = {*range(offset, offset + classes)}
        # 255 may be void beside another, as along the edges of things.
        for void in ((), (VOID,), (0,), (classes,), (0, VOID), (classes, VOID)):
            if {*void} <= present - inside and present <= inside | {*void}:
                text = f"classes {offset}..{offset + last}, "
                text += f"void {' and '.join(map(str, void))}" if void else "no void"
                candidates[text] = LabelReading(offset=offset, void=void)
    results: dict[bytes, str] = {}
    for text, reading in candidates.items():
        labels = LabelDecoder(reading, classes).decode(np.array([values]), where="values")
        results.setdefault(labels.tobytes(), text)
    meaning = {text: candidates[text] for text in results.values()}
    if not meaning and len(present) == classes:
        values_of = {value: index for index, value in enumerate(sorted(present))}
        meaning[
            f"the values {value_ranges(np.array(sorted(present)))} are the classes in order"
        ] = LabelReading(map=values_of)
    return meaning


def detect_reading(
    paths: Sequence[Path], classes: int, *, option: str = "labels: {}"
) -> LabelReading:
    """Return the reading of label files that their values prove.

    Proven is the only possible reading; or, where 255 occurs, the only one under which every class
    does: a class without a pixel is refused otherwise too.

    Args:
        paths: The files.
        classes: Number of classes.
        option: How the user states a reading, for the message; {} is the place of the reading.

    Raises:
        ValueError: If the values allow several readings, or none; lists them with the YAML.
    """
    values: dict[Path, NDArray[Any]] = {}
    every = np.zeros(0, dtype=np.int64)
    for path in _spread(paths):
        values[path] = np.unique(read_label_values(path))
        every = np.union1d(every, values[path])
        if len(values) >= _SCANNED and len(every) > classes:
            break
    if proven := proven_reading(every.tolist(), classes):
        return proven
    meaning = possible_readings(every.tolist(), classes)
    lines = [f"    {option.format(reading)}    # {text}" for text, reading in meaning.items()]
    if not lines:
        readings = ("{offset: 0, void: [255]}", "{map: {7: 0, 8: 1}, void: rest}")
        lines = [f"    {option.format(reading)}" for reading in readings]
    raise ValueError(_doubt_message(values, every, classes, lines, is_possible=bool(meaning)))


def _spread(paths: Sequence[Path]) -> list[Path]:
    """Return all paths, first some that are spread over the list."""
    first = paths[:: max(1, len(paths) // _SCANNED)]
    return list(dict.fromkeys([*first, *paths]))


def proven_reading(values: Sequence[int], classes: int) -> LabelReading | None:
    """Return the one reading that some values prove, see `detect_reading`; None if none is."""
    # Label maps of void alone are possible, if useless: their reading leaves a doubt.
    meaning = _readings_with_void_alone(values, classes)
    if len(meaning) == 1 and "in order" not in next(iter(meaning)):  # An order is only proposed.
        return next(iter(meaning.values()))
    complete = [
        reading
        for reading in meaning.values()
        if reading.offset is not None
        and {*range(reading.offset, reading.offset + classes)} <= {*values}
    ]
    return complete[0] if len(complete) == 1 and VOID in values else None


def check_label_files(paths: Sequence[Path], reading: LabelReading) -> None:
    """Check some label files against each other, under the reading of all.

    Raises:
        ValueError: If `binary` would join 1 and 255, or palettes number the same colours
            differently, so that indices cannot be classes.
    """
    some = paths[:: max(1, len(paths) // _SCANNED)]
    if reading.binary:
        _check_binary(some)
    if reading.colours is None:
        _check_palettes(some)


def _check_palettes(paths: Sequence[Path]) -> None:
    places: dict[Colour, tuple[int, Path]] = {}
    for path in paths:
        palette = read_palette(path)
        for index, colour in enumerate(palette):
            if palette.count(colour) > 1:  # Filled up with black, for example.
                continue
            before, other = places.setdefault(colour, (index, path))
            if before != index:
                raise ValueError(
                    f"{other} and {path} number colours differently: {list(colour)} is "
                    f"{before} in one and {index} in the other, as if a program sorted them; list "
                    "the colour of each class in data.labels, {colours: [[R, G, B], ...]}"
                )


def _check_binary(paths: Sequence[Path]) -> None:
    examples: dict[int, Path] = {}
    for path in paths:
        for value in np.unique(read_label_values(path)).tolist():
            examples.setdefault(value, path)
    if {1, VOID} <= examples.keys():
        raise ValueError(
            f"{examples[1]} holds 1 and {examples[VOID]} holds 255, which labels: {{binary: true}} "
            "would make one class; choose by one of these lines below data:\n"
            "    labels: {offset: 0, void: [255]}    # 0 and 1 are the classes, 255 is void\n"
            "    labels: {map: {0: 0, 1: 1, 255: 1}}    # 1 and 255 are the same class"
        )


def _doubt_message(
    values: dict[Path, NDArray[Any]],
    every: NDArray[Any],
    classes: int,
    lines: Sequence[str],
    *,
    is_possible: bool,
) -> str:
    example = "; ".join(f"{path}: {value_ranges(v)}" for path, v in islice(values.items(), 2))
    place = " below data:" if lines[0].lstrip().startswith("labels") else ""
    advice = (
        f"choose by one of these lines{place}"
        if is_possible
        else f"correct the number of classes, or state what each value is{place}, such as"
    )
    return "\n".join(
        [
            f"the {len(values)} label maps that were looked at hold the values "
            f"{value_ranges(every)} ({example}), which does not prove what they mean for "
            f"{counted(classes, 'class')}; {advice}",
            *lines,
        ]
    )


def value_ranges(values: NDArray[Any]) -> str:
    """Return sorted values as text, with their runs joined: 0..3, 7, 255; "none" if empty."""
    if not len(values):
        return "none"
    runs = np.split(values, np.flatnonzero(np.diff(values.astype(int)) != 1) + 1)
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
