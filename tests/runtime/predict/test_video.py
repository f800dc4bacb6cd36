"""Facts about rsseg/runtime/predict/video.py, caption.py and `rsseg predict --video`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from rsseg.cli import main as cli
from rsseg.images.preprocessing import Image
from rsseg.runtime.budget.budget import Budget
from rsseg.runtime.predict.caption import Caption
from rsseg.runtime.predict.video import predict_video
from rsseg.runtime.predictor import Predictor
from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_exported import description
from tests.helpers.small_service import IDLE, FakeExecutor

FRAMES, SIZE, RATE = 12, (96, 128), 12.5  # height and width


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video whose frames get brighter."""
    path = tmp_path_factory.mktemp("video") / "in.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, SIZE[::-1])
    for index in range(FRAMES):
        writer.write(np.full((*SIZE, 3), 20 * index, np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("cls") / "last.pt")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("rooms") / "last.pt", "segmentation")


def frames_of(path: Path) -> tuple[list[Image], float]:
    capture = cv2.VideoCapture(str(path))
    frames: list[Image] = []
    while True:
        read, frame = capture.read()
        if not read:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(np.asarray(frame, np.uint8)[:, :, ::-1])


def predict(*arguments: object) -> int:
    return cli.main(["predict", *map(str, arguments)])


def test_every_frame_of_a_video_gets_its_label_map(
    segmenter: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp4"
    assert predict(segmenter, source, "--video", "--resolutions", 32, "--out", out) == 0
    frames, rate = frames_of(out)
    assert len(frames) == FRAMES
    assert rate == pytest.approx(RATE)
    told = capsys.readouterr().out
    assert f"{FRAMES} frames ({FRAMES} at 32 px)" in told
    assert f"video: {out}" in told
    predictor = Predictor.open(segmenter)
    caption = Caption(predictor)
    for given, drawn in zip(frames_of(source)[0], frames, strict=True):
        prediction = predictor.predict(given, 32)
        expected = caption.draw(given, prediction)
        # The codec is lossy, and the upper part tells a time that is another one.
        below = SIZE[0] // 3
        difference = np.abs(drawn[below:].astype(int) - expected[below:])
        assert difference.mean() < 12
    assert list(tmp_path.iterdir()) == [out]


def test_resolution_time_and_best_class_are_drawn_into_the_picture(classifier: Path) -> None:
    predictor = Predictor.open(classifier)
    image = np.full((240, 320, 3), 200, np.uint8)
    drawn = {
        side: Caption(predictor).draw(image, predictor.predict(image, side)) for side in (64, 32)
    }
    for picture in drawn.values():
        changed = np.argwhere((picture != image).any(axis=2))
        assert changed[:, 0].max() < 80  # two lines in the upper left corner
        assert (picture == 255).all(axis=2).any()  # of white letters
    assert (drawn[64] != drawn[32]).any()
    assert (image == 200).all()


def fake(took: list[int], idle: dict[int, float] | None = None) -> Predictor:
    executor = FakeExecutor(took.append)
    made = Budget(idle or IDLE)
    told = description(resolutions=tuple(IDLE))
    return Predictor(executor, told, make_budget=lambda _: made)


@pytest.mark.parametrize(
    ("rate", "resolution"), [(0.1, 64), (200.0, 32)], ids=["one in ten seconds", "200 a second"]
)
def test_frame_rate_chooses_the_resolution(
    source: Path, tmp_path: Path, rate: float, resolution: int
) -> None:
    seen: list[int] = []
    frames = predict_video(fake(seen), str(source), tmp_path / "out.avi", fps=rate)
    assert [frame.resolution for frame in frames] == [resolution] * FRAMES
    assert seen == [resolution] * FRAMES


def test_budget_is_stronger_than_the_frame_rate(source: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    predict_video(fake(seen), str(source), tmp_path / "out.avi", fps=0.1, budget_ms=0.5)
    assert set(seen) == {32}


def test_interruption_ends_the_video_and_keeps_it(source: Path, tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        seen.append(0)
        if len(seen) == 5:
            raise KeyboardInterrupt

    seen: list[int] = []
    predictor = fake([])
    predictor.executor = FakeExecutor(interrupt)
    out = tmp_path / "out.avi"
    assert len(predict_video(predictor, str(source), out, resolution=32)) == 4
    assert len(frames_of(out)[0]) == 4


def test_error_in_the_middle_leaves_no_half_of_a_video(source: Path, tmp_path: Path) -> None:
    def fail(_: int) -> None:
        seen.append(0)
        if len(seen) == 5:
            raise ValueError("broken")

    seen: list[int] = []
    predictor = fake([])
    predictor.executor = FakeExecutor(fail)
    with pytest.raises(ValueError, match="broken"):
        predict_video(predictor, str(source), tmp_path / "out.avi", resolution=32)
    assert list(tmp_path.iterdir()) == []


class Camera:
    """Gives two frames, whatever camera is asked for."""

    def __init__(self, number: int) -> None:
        assert number == 3
        self.left = 2

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def get(self, what: int) -> float:
        return 128.0 if what == cv2.CAP_PROP_FRAME_WIDTH else -1.0

    def read(self) -> tuple[bool, Image]:
        self.left -= 1
        return self.left >= 0, np.zeros((*SIZE, 3), np.uint8)

    def release(self) -> None:
        self.left = 0


def test_camera_is_named_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    out = tmp_path / "out.avi"
    assert len(predict_video(fake([]), "3", out, fps=20, resolution=32)) == 2
    monkeypatch.undo()
    frames, rate = frames_of(out)
    assert len(frames) == 2
    assert rate == pytest.approx(20)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--out", "text.mp4"], "text.mp4 exists; choose another name, or give --overwrite"),
        (["--out", "out.gif"], "--out out.gif is not a name of a video; expected .mp4, .avi, .mkv"),
        (["--out", "none/out.mp4"], "there is no folder none for out.mp4; make it first"),
        ([], "a video needs --out FILE to be written, or --show"),
        (["--out", "out.mp4", "--fps", "0"], "--fps must be above 0 and below 1000, got 0"),
        (["--out", "out.mp4", "--budget-ms", "-1"], "budget_ms must be a positive number"),
        (["--out", "out.mp4", "--resolutions", "32", "16"], "predicted at one resolution"),
        (["--out", "out.mp4", "--resolutions", "32", "--budget-ms", "9"], "chooses the resolution"),
        (["--out", "out.mp4", "--top", "3"], "takes no --top; leave it out"),
        (["--show"], "--show needs a display, and an OpenCV with windows"),
    ],
)
def test_what_cannot_be_done_is_a_clear_error(
    classifier: Path,
    source: Path,
    tmp_path: Path,
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: Sequence[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "text.mp4").write_text("no video")
    assert predict(classifier, source, "--video", *options) == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("text.mp4", "text.mp4 is not a video that OpenCV reads; convert it to MP4 first"),
        ("gone.mp4", "there is no file gone.mp4; give a video, or the number of a camera"),
        ("97", "there is no camera 97; give the number of one, or a video file"),
    ],
)
def test_source_that_cannot_be_read_is_named(
    classifier: Path,
    tmp_path: Path,
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.mp4").write_text("no video")
    assert predict(classifier, name, "--video", "--resolutions", "32", "--out", "out.mp4") == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"]


def test_videos_and_images_keep_their_options_apart(
    classifier: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(classifier, source, "--fps", "3") == 2
    assert "takes no --fps; leave it out" in capsys.readouterr().err
    assert predict(classifier, source, source, "--video", "--out", "out.mp4") == 2
    assert "--video takes one source, got 2" in capsys.readouterr().err
