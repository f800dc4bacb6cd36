"""Letters: a font for every script that is installed, and words for those that are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import ImageFont

from rsseg.images import letters


@pytest.mark.parametrize("text", ["wall", "Straße", "стена", "τοίχος", "a$b", "25 ms · 3 %", ""])
def test_the_font_that_matplotlib_brings_has_the_common_scripts(text: str) -> None:
    path = letters.font_path(text)
    assert path is not None
    assert path.name == "DejaVuSans.ttf"


def test_text_without_a_font_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "_installed", lambda: ())
    assert letters.font_path("壁") is None
    assert letters.readable("壁", "class 3") == "class 3"
    assert letters.readable("\n", "class 4") == "class 4"
    assert letters.readable("wall\nand\x00 floor", "class 5") == "wall and floor"


def test_installed_font_that_has_the_letters_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    files = Path("sans.ttf"), Path("kanji.ttf")
    known = {files[0]: frozenset(map(ord, "abc")), files[1]: frozenset(map(ord, "壁"))}
    monkeypatch.setattr(letters, "_installed", lambda: files)
    monkeypatch.setattr(letters, "_letters", lambda path: known.get(path, frozenset()))
    assert letters.font_path("壁 壁") == files[1]
    assert letters.font_path("壁c") is None


def test_font_of_a_text_has_the_size_asked_for() -> None:
    font = letters.font_of("wall", 20)
    assert isinstance(font, ImageFont.FreeTypeFont)
    assert font.size == 20
    assert letters.font_of("floor", 20) is font
