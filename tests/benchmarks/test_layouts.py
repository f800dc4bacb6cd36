"""Every layout that docs/OWN_DATA.md names is read with its true labels, or refused by name."""

from __future__ import annotations

import contextlib
import importlib.util
from functools import partial
from pathlib import Path

import pytest

from benchmarks.layouts.images import (
    CLASSES,
    IMAGE_LAYOUTS,
    NEEDS_WEBDATASET,
    draw_images,
    same_classes,
    settings_of_images,
)
from benchmarks.layouts.labels import (
    LAYOUTS,
    draw,
    main,
    reads_classes,
    reads_labels,
    recognised,
    refusal,
    same_labels,
    settings_of,
    trains,
)

without_webdataset = importlib.util.find_spec("webdataset") is None
OF_IMAGES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name in NEEDS_WEBDATASET and without_webdataset, reason="needs webdataset"
        ),
    )
    for name in IMAGE_LAYOUTS
]


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if not layout.refused])
def test_layout_is_read_with_the_labels_that_were_drawn(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    samples = draw(layout.classes, void=layout.void)
    layout.make(tmp_path / "data", samples)
    assert same_labels(settings_of(layout, tmp_path / "data"), layout.classes, samples)
    # The check can fail: other labels are not the same.
    other = draw(layout.classes, void=layout.void, seed=1)
    assert not same_labels(settings_of(layout, tmp_path / "data"), layout.classes, other)


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout.refused])
def test_layout_that_proves_nothing_is_refused(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    samples = draw(layout.classes, void=layout.void)
    layout.make(tmp_path / "data", samples)
    assert layout.refused is not None
    assert layout.refused in refusal(layout, tmp_path / "data", samples)


@pytest.mark.parametrize("is_informed", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_written_configuration_reads_the_drawn_labels_or_asks_as_expected(
    tmp_path: Path, name: str, is_informed: bool
) -> None:
    layout = LAYOUTS[name]
    samples = draw(layout.classes, void=layout.void)
    layout.make(tmp_path / "data", samples)
    classes = layout.classes if is_informed else None
    works = partial(reads_labels, samples=samples)
    answer = recognised(tmp_path / "data", tmp_path / "my.yaml", works, classes=classes)
    assert answer == (layout.informed if is_informed else layout.init)


@pytest.mark.parametrize("name", ["splits", "colours"])
def test_answer_that_reads_other_labels_is_noted_as_wrong(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    layout.make(tmp_path / "data", draw(layout.classes, void=layout.void))
    other = partial(reads_labels, samples=draw(layout.classes, void=layout.void, seed=1))
    for number, classes in enumerate((None, layout.classes)):
        out = tmp_path / f"{number}.yaml"
        assert recognised(tmp_path / "data", out, other, classes=classes) == "WRONG"


@pytest.mark.parametrize("name", OF_IMAGES)
def test_layout_of_images_is_read_with_the_classes_that_were_drawn(
    tmp_path: Path, name: str
) -> None:
    layout, samples = IMAGE_LAYOUTS[name], draw_images()
    layout.make(tmp_path / "data", samples)
    data = settings_of_images(layout, tmp_path / "data")
    assert same_classes(data, len(CLASSES), samples)
    # The check can fail: a class of an image is another.
    wrong = [samples[0]._replace(label=(samples[0].label + 1) % len(CLASSES)), *samples[1:]]
    assert not same_classes(data, len(CLASSES), wrong)
    works = partial(reads_classes, samples=samples)
    answers = [
        recognised(tmp_path / "data", tmp_path / f"{classes}.yaml", works, classes=classes)
        for classes in (None, len(CLASSES))
    ]
    assert answers == [layout.init, layout.informed]


@pytest.mark.parametrize("name", ["suffix", "colours", "camvid"])
def test_layout_trains(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    layout.make(tmp_path / "data", draw(layout.classes, void=layout.void))
    assert trains(layout, tmp_path / "data", tmp_path)


@pytest.mark.slow
def test_table_of_all_layouts_has_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        assert main(["--train"]) == 0
    left_out = len(NEEDS_WEBDATASET) if without_webdataset else 0
    lines = 2 + len(LAYOUTS) + len(IMAGE_LAYOUTS) - left_out
    assert len(capsys.readouterr().out.splitlines()) == lines
