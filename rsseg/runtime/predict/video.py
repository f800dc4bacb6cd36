"""Videos and cameras: every frame predicted, at the resolution that keeps a frame rate.

OpenCV reads and writes. Label maps are laid over their frames, the classes of a classifier are
written into them, and so are the resolution and the time that a frame has taken. Sound is lost.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from tqdm import tqdm

from rsseg.common.files import check_output, written_whole
from rsseg.common.messages import counted
from rsseg.images.preprocessing import Image
from rsseg.runtime.budget.budget import check_budget
from rsseg.runtime.budget.hysteresis import Hysteresis
from rsseg.runtime.predict.caption import Caption
from rsseg.runtime.predictor import Predictor

FPS: Final = 25.0
CODECS: Final = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
_WINDOW: Final = "rsseg"
_LEAST: Final = 1.0  # milliseconds that a prediction is given whatever else a frame costs

Write = Callable[[Image], None]


@dataclass(frozen=True)
class Frame:
    """The resolution and the time of one frame.

    Args:
        resolution: Side of its view in pixels.
        milliseconds: From reading it to having written it.
    """

    resolution: int
    milliseconds: float


def predict_video(
    predictor: Predictor,
    source: str,
    out: Path | None,
    *,
    fps: float = FPS,
    budget_ms: float | None = None,
    resolution: int | None = None,
    show: bool = False,
    overwrite: bool = False,
) -> list[Frame]:
    """Predict each frame of a video.

    Args:
        predictor: The network.
        source: A video file, or the number of a camera, which runs until it is interrupted.
        out: Video that is written, with the frame rate of the source; None for none.
        fps: Frames per second that are to be worked on.
        budget_ms: Milliseconds for one frame; default: 1000 / fps.
        resolution: Of all frames; default: what keeps the budget.
        show: Show the frames in a window; Escape or q ends it.
        overwrite: Write over a file that exists.

    Returns:
        Resolution and time of each frame.

    Raises:
        ValueError: If something given is not valid, or the source cannot be read.
        OSError: If the file cannot be written.
    """
    _check(source, out, fps, show=show, overwrite=overwrite)
    budget_ms = 1000 / fps if budget_ms is None else budget_ms
    check_budget(budget_ms)
    if resolution is None:
        predictor.measure()  # now, not with the first frame
    with _opened(source) as capture:
        rate = 0.0 if _is_camera(source) else capture.get(cv2.CAP_PROP_FPS)
        writing: AbstractContextManager[Write | None] = nullcontext()
        if out is not None:
            writing = _writer(out, rate if 0 < rate < 1000 else fps)
        with writing as write:
            return list(_work(predictor, capture, write, (budget_ms, resolution), show=show))


def summary(frames: Sequence[Frame]) -> str:
    """Return in a line how many frames there are, at which resolutions, and what they took."""
    if not frames:
        return "0 frames"
    median = statistics.median(frame.milliseconds for frame in frames)
    counts = Counter(frame.resolution for frame in frames)
    shares = ", ".join(f"{count} at {side} px" for side, count in sorted(counts.items())[::-1])
    number, pace = counted(len(frames), "frame"), 1000 / median
    return f"{number} ({shares}), {median:.1f} ms a frame, {pace:.1f} per second"


def _work(
    predictor: Predictor,
    capture: cv2.VideoCapture,
    write: Write | None,
    limits: tuple[float, int | None],
    *,
    show: bool,
) -> Iterator[Frame]:
    """Read, predict, draw, write; an interruption ends the video, it does not lose it."""
    budget_ms, resolution = limits
    caption, rest = Caption(predictor), Hysteresis(0.0)
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    try:
        for frame in tqdm(_frames(capture), "video", total if total > 0 else None, unit="frame"):
            begun = time.perf_counter()
            left = max(_LEAST, budget_ms - rest.value) if resolution is None else None
            image = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
            prediction = predictor.predict(image, resolution, budget_ms=left)
            drawn = cv2.cvtColor(caption.draw(image, prediction), cv2.COLOR_RGB2BGR)
            if write is not None:
                write(np.asarray(drawn, np.uint8))
            ended = show and _shown(drawn)
            took = 1000 * (time.perf_counter() - begun)
            rest.measure(max(0.0, took - prediction.milliseconds))
            yield Frame(prediction.resolution, took)
            if ended:
                return
    except KeyboardInterrupt:
        return


def _frames(capture: cv2.VideoCapture) -> Iterator[Image]:
    while True:
        read, frame = capture.read()
        if not read:
            return
        yield np.asarray(frame, np.uint8)


def _is_camera(source: str) -> bool:
    return source.isascii() and source.isdigit() and not Path(source).exists()


@contextmanager
def _opened(source: str) -> Iterator[cv2.VideoCapture]:
    """Open a file or a camera."""
    camera = _is_camera(source)
    capture = cv2.VideoCapture(int(source)) if camera else cv2.VideoCapture(source)
    try:
        if not capture.isOpened():
            raise ValueError(
                f"there is no camera {source}; give the number of one, or a video file"
                if camera
                else f"{source} is not a video that OpenCV reads; convert it to MP4 first"
            )
        if int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)) < 1:
            raise ValueError(f"{source} has no pictures; give another video")
        yield capture
    finally:
        capture.release()


@contextmanager
def _writer(out: Path, fps: float) -> Iterator[Write]:
    """Yield what writes frames (BGR) into a video, which gets its name when it is whole."""
    writers: list[cv2.VideoWriter] = []
    with written_whole(out) as temporary:

        def write(frame: Image) -> None:
            if not writers:
                code = cv2.VideoWriter.fourcc(*CODECS[out.suffix.lower()])
                size = frame.shape[1], frame.shape[0]
                writers.append(cv2.VideoWriter(str(temporary), code, fps, size))
                if not writers[0].isOpened():
                    raise ValueError(f"OpenCV cannot write {out}; try a name that ends in .avi")
            writers[0].write(frame)

        try:
            yield write
        finally:
            for writer in writers:
                writer.release()
        if not writers:
            raise ValueError("the video has no frame that can be read; nothing is written")


def _shown(frame: cv2.typing.MatLike) -> bool:
    """Show a frame; return whether the window is to be closed."""
    cv2.imshow(_WINDOW, frame)
    return cv2.waitKey(1) & 0xFF in (27, ord("q"))


def _check(source: str, out: Path | None, fps: float, *, show: bool, overwrite: bool) -> None:
    """Check everything that can be before the first frame."""
    if not 0 < fps < 1000:
        raise ValueError(f"--fps must be above 0 and below 1000, got {fps:g}")
    if not _is_camera(source) and not Path(source).is_file():
        raise ValueError(f"there is no file {source}; give a video, or the number of a camera")
    if out is None and not show:
        raise ValueError("a video needs --out FILE to be written, or --show")
    if show:
        _check_window()
    if out is None:
        return
    if out.suffix.lower() not in CODECS:
        raise ValueError(f"--out {out} is not a name of a video; expected {', '.join(CODECS)}")
    if out.exists() and out.resolve() == Path(source).resolve():
        raise ValueError(f"{out} is read and would be written over; give another --out")
    check_output(out, overwrite=overwrite)


def _check_window() -> None:
    """Check that there can be a window; a missing display would end the process."""
    unseen = sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    try:
        if not unseen:
            cv2.namedWindow(_WINDOW)
    except cv2.error:
        unseen = True
    if unseen:
        raise ValueError(
            "--show needs a display, and an OpenCV with windows (opencv-python-headless has "
            "none); leave it out and give --out FILE"
        )
