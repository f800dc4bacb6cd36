"""From values to classes: what is stated is obeyed, what is not proven is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pictures

from rsseg.segmentation.labels import (
    LabelDecoder,
    LabelReading,
    check_label_files,
    complete_reading,
    detect_reading,
    possible_readings,
)

CAMVID = [*range(12)]


def write(path: Path, *values: int) -> Path:
    """Write a label file in which just these values occur."""
    Pictures.fromarray(np.resize(np.array(values, dtype=np.uint8), (5, 11))).save(path)
    return path


def decoded(reading: LabelReading, classes: int, *values: int) -> list[int]:
    array = np.array([values], dtype=np.uint16)
    labels = LabelDecoder(reading, classes).decode(array, where="a.png")
    assert labels.dtype == np.uint8
    return [int(label) for label in labels[0]]


@pytest.mark.parametrize(
    ("values", "classes", "expected"),
    [
        ((*range(40), 255), 40, LabelReading(offset=0, void=(255,))),
        ((1, 2, 3, 255), 3, LabelReading(offset=1, void=(255,))),
        ((0, 1, 255), 2, LabelReading(offset=0, void=(255,))),
    ],
)
def test_void_that_no_other_reading_explains_proves_the_reading(
    tmp_path: Path, values: tuple[int, ...], classes: int, expected: LabelReading
) -> None:
    paths = [write(tmp_path / "a.png", 1, 2), write(tmp_path / "b.png", *values)]
    assert detect_reading(paths[1:] if classes == 2 else paths, classes) == expected


@pytest.mark.parametrize(
    ("values", "classes", "lines"),
    [
        (CAMVID, 11, ["labels: {offset: 0, void: [11]}", "labels: {offset: 1, void: [0]}"]),
        ((0, 255), 2, ["labels: {binary: true}", "labels: {offset: 0, void: [255]}"]),
        ((0, 1), 2, ["labels: {offset: 0}", "labels: {offset: 1, void: [0]}"]),
        ((0, 7, 39), 40, ["labels: {offset: 0}", "labels: {offset: 1, void: [0]}"]),
        ((1, 2, 3), 3, ["labels: {offset: 1}", "labels: {offset: 0, void: [3]}"]),
        ((0, 128, 255), 3, ["labels: {map: {0: 0, 128: 1, 255: 2}}"]),
        ((0, 1, 2, 40, 200), 40, ["labels: {map: {7: 0, 8: 1}, void: rest}"]),
        ((1, 40, 255), 40, ["labels: {offset: 1, void: [255]}", "{offset: 0, void: [40, 255]}"]),
        ((0, 1, 2, 255), 4, ["labels: {offset: 0, void: [255]}", "{offset: 1, void: [0, 255]}"]),
    ],
)
def test_what_the_values_do_not_prove_is_refused_with_the_line_of_each_reading(
    tmp_path: Path, values: tuple[int, ...], classes: int, lines: list[str]
) -> None:
    path = write(tmp_path / "a.png", *values)
    with pytest.raises(ValueError, match=r"a\.png: .*does not prove") as error:
        detect_reading([path], classes)
    for line in lines:
        assert line in str(error.value)


@given(st.sets(st.integers(0, 6) | st.just(255), min_size=1), st.integers(2, 5))
def test_every_possible_reading_decodes_the_values_and_no_two_alike(
    values: set[int], classes: int
) -> None:
    meanings = [
        tuple(decoded(reading, classes, *sorted(values)))
        for reading in possible_readings(sorted(values), classes).values()
    ]
    assert len({*meanings}) == len(meanings)


@given(st.integers(2, 6), st.sampled_from([0, 1]), st.sampled_from([None, 0, "K", 255]), st.data())
def test_the_true_reading_is_among_the_possible_ones(
    classes: int, offset: int, void: object, data: st.DataObject
) -> None:
    void = classes if void == "K" else void
    inside = range(offset, offset + classes)
    values = data.draw(st.sets(st.sampled_from(inside), min_size=1))
    if isinstance(void, int) and void not in inside:
        values = values | {void}
    expected = [value - offset if value in inside else 255 for value in sorted(values)]
    readings = possible_readings(sorted(values), classes).values()
    assert expected in [decoded(reading, classes, *sorted(values)) for reading in readings]


def test_masks_of_0_and_255_are_two_classes_first_and_never_void_alone() -> None:
    first, *others = possible_readings([0, 255], 2).values()
    assert first == LabelReading(binary=True)
    assert others == [LabelReading(offset=0, void=(255,))]


@given(st.sets(st.integers(0, 6) | st.just(255), min_size=1), st.integers(2, 5))
def test_every_possible_reading_has_a_pixel_of_a_class(values: set[int], classes: int) -> None:
    for reading in possible_readings(sorted(values), classes).values():
        assert {*decoded(reading, classes, *sorted(values))} != {255}


def test_one_offer_left_beside_void_alone_is_not_a_proof(tmp_path: Path) -> None:
    assert len(possible_readings([0], 3)) == 1
    with pytest.raises(ValueError, match="does not prove") as error:
        detect_reading([write(tmp_path / "a.png", 0)], 3)
    assert str(error.value).count("labels: {") == 1


def test_half_a_reading_is_completed() -> None:
    from_one = LabelReading(offset=1, void=(0,))
    from_zero = LabelReading(offset=0, void=(255,))
    assert complete_reading(1, None) == complete_reading(None, 0) == from_one
    assert complete_reading(0, None) == complete_reading(None, 255) == from_zero


@pytest.mark.parametrize(("classes", "offset", "void"), [(40, 1, 0), (40, 0, 255), (13, 3, 200)])
def test_an_offset_shifts_the_classes_and_makes_void_255(
    classes: int, offset: int, void: int
) -> None:
    reading = LabelReading(offset=offset, void=(void,))
    values = (offset, offset + 1, offset + classes - 1, void)
    assert decoded(reading, classes, *values) == [0, 1, classes - 1, 255]


def test_values_of_16_bits_are_decoded() -> None:
    reading = LabelReading(offset=1000, void=(0, 65535))
    assert decoded(reading, 3, 1000, 1002, 0, 65535) == [0, 2, 255, 255]


def test_a_map_joins_values_and_the_rest_may_be_void() -> None:
    reading = LabelReading(map={7: 0, 8: 1, 300: 1}, void="rest")
    assert decoded(reading, 2, 7, 8, 300, 9, 0) == [0, 1, 1, 255, 255]
    assert decoded(LabelReading(map={7: 0, 8: 1}, void=(9,)), 2, 7, 8, 9) == [0, 1, 255]


def test_colours_become_classes_in_their_order() -> None:
    reading = LabelReading(colours=((0, 0, 0), (128, 0, 0)), void=((255, 255, 255),))
    pixels = np.array([[[128, 0, 0], [0, 0, 0], [255, 255, 255]]], dtype=np.uint8)
    decoder = LabelDecoder(reading, 2)
    assert decoder.decode(pixels, where="a.png").tolist() == [[1, 0, 255]]
    pixels[0, 0] = (127, 0, 0)
    with pytest.raises(ValueError, match=r"a\.png: holds the colours \[127, 0, 0\], .* void: rest"):
        decoder.decode(pixels, where="a.png")


def test_binary_masks_have_one_value_beside_0(tmp_path: Path) -> None:
    binary = LabelReading(binary=True)
    assert decoded(binary, 2, 0, 255) == decoded(binary, 2, 0, 1) == [0, 1]
    with pytest.raises(ValueError, match=r"holds 1 and 255.*\{offset: 0, void: \[255\]\}"):
        decoded(binary, 2, 0, 1, 255)
    with pytest.raises(ValueError, match="holds the values 128 beside class 0 is 0"):
        decoded(binary, 2, 0, 128)
    paths = [write(tmp_path / "a.png", 0, 1), write(tmp_path / "b.png", 0, 255)]
    with pytest.raises(ValueError, match=r"a\.png holds 1 and .*b\.png holds 255"):
        check_label_files(paths, binary)
    check_label_files(paths[:1], binary)


def test_foreign_values_are_named_with_the_file_and_the_remedy() -> None:
    values = np.array([[0, 1, 39, 40, 41, 255]], dtype=np.uint8)
    message = r"a\.png: holds the values 40..41 beside classes 0..39, void 255 .*data\.labels"
    with pytest.raises(ValueError, match=message):
        LabelDecoder(LabelReading(offset=0, void=(255,)), 40).decode(values, where="a.png")


@pytest.mark.parametrize(
    ("reading", "classes", "message"),
    [
        ({}, 2, "exactly one of offset, map, colours, binary, got none"),
        ({"offset": 0, "binary": True}, 2, "got offset and binary"),
        ({"offset": 0, "void": (1,)}, 2, "void 1 is also the value of a class"),
        ({"offset": 0, "void": ((0, 0, 0),)}, 2, "beside offset, void lists values"),
        ({"colours": ((0, 0, 0), (1, 1, 1)), "void": (3,)}, 2, "beside colours, void lists colour"),
        ({"colours": ((0, 0, 0), (0, 0, 0))}, 2, "lists a colour twice"),
        ({"colours": ((0, 0, 0), (1, 1, 1))}, 3, "2 colours for 3 classes"),
        ({"map": {1: 0, 2: 2}}, 3, r"leads to the classes 0, 2, expected each of 0\.\.2"),
        ({"binary": True}, 3, "for 2 classes, there are 3"),
        ({"offset": 65535}, 3, "leaves no values for 3 classes"),
        ({"offset": -1}, 3, "greater than or equal to 0"),
        ({"offset": 1, "void": (65536,)}, 3, "less than 65536"),
    ],
)
def test_impossible_readings_are_refused(
    reading: dict[str, object], classes: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LabelDecoder(LabelReading(**reading), classes)  # type: ignore[arg-type]


def test_a_reading_is_written_as_the_yaml_that_states_it() -> None:
    assert str(LabelReading(offset=0, void=(11,))) == "{offset: 0, void: [11]}"
    assert str(LabelReading(map={0: 0, 255: 1})) == "{map: {0: 0, 255: 1}}"
    assert str(LabelReading(binary=True, void="rest")) == "{binary: true, void: rest}"
    assert str(LabelReading(colours=((1, 2, 3),))) == "{colours: [[1, 2, 3]]}"


def test_rare_classes_are_looked_for_in_every_file(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{index:03d}.png", 0, 1, 255) for index in range(130)]
    with pytest.raises(ValueError, match="130 label maps that were looked at"):
        detect_reading(paths, 3)
    write(paths[1], 0, 2, 255)  # not among the first that are looked at
    assert detect_reading(paths, 3) == LabelReading(offset=0, void=(255,))


def with_palette(path: Path, colours: list[tuple[int, int, int]]) -> Path:
    picture = Pictures.fromarray(np.resize(np.array([0, 1, 2], dtype=np.uint8), (5, 11)))
    picture.putpalette([channel for colour in colours for channel in colour])
    picture.save(path)
    return path


def test_palettes_that_number_colours_differently_are_refused(tmp_path: Path) -> None:
    red, green, blue, black = (200, 0, 0), (0, 200, 0), (0, 0, 200), (0, 0, 0)
    first = with_palette(tmp_path / "a.png", [red, green, blue])
    sorted_other = with_palette(tmp_path / "b.png", [green, red, blue])
    reading = LabelReading(offset=0)
    with pytest.raises(ValueError, match=r"a\.png and .*b\.png .*\[0, 200, 0\] is 1 in one and 0"):
        check_label_files([first, sorted_other], reading)
    # A longer palette, or one filled up with a colour, numbers them alike.
    longer = with_palette(tmp_path / "c.png", [red, green, blue, black, black])
    check_label_files([first, longer], reading)
    colours = LabelReading(colours=(red, green, blue))
    check_label_files([first, sorted_other], colours)
    same = [LabelDecoder(colours, 3).read(path)[0, 0] for path in (first, sorted_other)]
    assert same == [0, 1]
