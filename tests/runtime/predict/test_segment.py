"""`rsseg predict`: label maps at the images' own size, the files that are written, bad input."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image as Pictures
from torch import Tensor, nn

from rsseg.images import photo
from rsseg.images.preprocessing import Image, LabelMap, Preprocessing
from rsseg.images.reading import decode_jpeg
from rsseg.runtime.description import Description
from rsseg.runtime.executors import TorchExecutor
from rsseg.runtime.predict.segment import (
    OutputFolder,
    common_resolutions,
    predict_files,
    table,
)
from rsseg.runtime.predict.truth import TruthFiles
from rsseg.runtime.predictor import Predictor
from rsseg.segmentation.labels import LabelReading
from rsseg.segmentation.palette import overlay
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.resolutions import Resolutions

CLASSES = ("wall", "floor", "lamp", "other things")


def small_net(seed: int = 0) -> SwitchableNet:
    """A network from (B, 3, h, w) to (B, 4, h/4, w/4) whose sets differ."""
    torch.manual_seed(seed)
    plain = nn.Sequential(
        nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)
    )
    net = SwitchableNet(plain, [32, 16])
    for name, tensor in net.state_dict().items():
        if ".sets." in name and tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return net.eval()


def some_image(height: int = 20, width: int = 30, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def predictor(
    name: str = "RS-Net",
    seed: int = 0,
    *,
    net: SwitchableNet | None = None,
    classes: tuple[str, ...] = CLASSES,
) -> Predictor:
    description = Description(
        task="segmentation",
        name=name,
        classes=classes,
        resolutions=Resolutions((32, 16)),
        preprocessing=Preprocessing(),
    )
    return Predictor(TorchExecutor(small_net(seed) if net is None else net), description)


def label_map(predictor: Predictor, image: Image, resolution: int) -> LabelMap:
    labels = predictor.predict(image, resolution).label_map
    assert labels is not None
    return labels


def by_hand(net: SwitchableNet, image: Image, resolution: int) -> Tensor:
    """Resize, normalise, predict, resize the logits: each step in the open."""
    whole = torch.from_numpy(image).permute(2, 0, 1)[None]
    size = (resolution, resolution)
    view = F.interpolate(whole, size=size, mode="bilinear", antialias=True).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        logits = net.predict((view - mean[:, None, None]) / std[:, None, None], resolution)
    return F.interpolate(logits, size=image.shape[:2], mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize("resolution", [32, 24, 16, 48])
@pytest.mark.parametrize("rule", ["interpolate", "extrapolate"])
def test_predicted_labels_are_those_of_the_steps_by_hand(resolution: int, rule: str) -> None:
    net = small_net()
    net.unseen = rule
    image = some_image()
    labels = label_map(predictor(net=net), image, resolution)
    assert labels.dtype == np.uint8
    logits = by_hand(net, image, resolution)
    first, second = logits.topk(2, dim=0).values
    clear = (first - second > 1e-4).numpy()  # Rounding decides about the other pixels.
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(labels[clear], logits.argmax(dim=0).numpy()[clear])


def test_resolutions_give_different_labels_and_keep_the_size_of_the_image() -> None:
    maps = [label_map(predictor(), some_image(61, 17), resolution) for resolution in (32, 16)]
    assert [labels.shape for labels in maps] == [(61, 17)] * 2
    assert (maps[0] != maps[1]).any()


def test_predicting_leaves_mode_active_set_and_statistics_as_they_are() -> None:
    net = small_net().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    labels = label_map(predictor(net=net), some_image(), 16)
    label_map(predictor(net=net), some_image(), 24)
    assert all(module.training for module in net.modules())
    assert net.network[1].active == "32"  # type: ignore[index]
    assert net.state_dict().keys() == before.keys()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    np.testing.assert_array_equal(labels, label_map(predictor(), some_image(), 16))


def test_results_hold_every_network_at_every_resolution_with_its_accuracy(tmp_path: Path) -> None:
    image = save(tmp_path / "images" / "a.png", some_image())
    save(tmp_path / "truth" / "a.png", label_map(predictor(), some_image(), 16))
    results = predict_files(
        [predictor("a"), predictor("b", 1)],
        [image],
        tmp_path / "out",
        resolutions=[32, 16],
        truth=TruthFiles(tmp_path / "truth", len(CLASSES), LabelReading(offset=0)),
    )
    assert [(r.image, r.network, r.resolution) for r in results] == [
        *[("a.png", "a", 32), ("a.png", "a", 16)],
        *[("a.png", "b", 32), ("a.png", "b", 16)],
    ]
    assert results[1].accuracy == 1
    for stages in (result.stages for result in results):
        assert min(stages.rounded(6).values()) > 0
        assert stages.total == pytest.approx(sum(stages.rounded(6).values()), abs=1e-4)
    (alone,) = predict_files([predictor()], [image], tmp_path / "alone", resolutions=[32])
    assert alone.accuracy is None


def test_view_that_a_network_cannot_read_names_network_and_resolution() -> None:
    with pytest.raises(ValueError, match=r"'RS-Net': .* resolution 3, with views of 3x3 pixels"):
        predictor().predict(some_image(), 3)


def test_logits_of_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 4, 8, 8\), expected \(1, 2, h, w\)"):
        predictor(classes=("a", "b")).predict(some_image(), 32)


def test_files_hold_labels_overlays_and_pictures(tmp_path: Path) -> None:
    images = [save(tmp_path / f"{name}.png", some_image(seed=i)) for i, name in enumerate("ab")]
    results = predict_files(
        [predictor("I 32"), predictor("RS", 1)], images, tmp_path / "out", resolutions=[32, 16]
    )
    assert len(results) == 8
    folder = OutputFolder(tmp_path / "out")
    expected = folder.files(images, ["I 32", "RS"], [32, 16])
    assert sorted(p for p in folder.root.rglob("*") if p.is_file()) == sorted(expected)
    assert len(expected) == 2 * (4 * 2 + 1) + 1
    assert folder.labels(images[0], "I 32", 16).parent.name == "I_32_16"
    labels = label_map(predictor(seed=1), some_image(seed=1), 16)
    with Pictures.open(folder.labels(images[1], "RS", 16)) as written:
        assert written.mode == "P"
        np.testing.assert_array_equal(np.array(written), labels)
    with Pictures.open(folder.overlay(images[1], "RS", 16)) as written:
        shown = np.array(written)
    mixed = overlay(some_image(seed=1), labels, 4)
    np.testing.assert_array_equal(shown[: len(mixed), : mixed.shape[1]], mixed)
    assert shown.shape[0] > mixed.shape[0]


def test_overlay_without_legend_has_the_size_of_its_image(tmp_path: Path) -> None:
    image = save(tmp_path / "a.png", some_image())
    predict_files([predictor()], [image], tmp_path / "out", resolutions=[16], legend=False)
    labels = label_map(predictor(), some_image(), 16)
    with Pictures.open(OutputFolder(tmp_path / "out").overlay(image, "RS-Net", 16)) as written:
        np.testing.assert_array_equal(np.array(written), overlay(some_image(), labels, 4))


def test_label_maps_alone_are_the_same_and_need_no_whole_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "a.jpg"
    Pictures.fromarray(some_image(200, 300)).save(image)
    predict_files([predictor()], [image], tmp_path / "all", resolutions=[16])
    reductions: list[int] = []

    def decoding(content: bytes, reduction: int) -> Image | None:
        reductions.append(reduction)
        return decode_jpeg(content, reduction)

    monkeypatch.setattr(photo, "decode_jpeg", decoding)
    predict_files([predictor()], [image], tmp_path / "maps", resolutions=[16], pictures=False)
    assert reductions == [4]
    folders = [OutputFolder(tmp_path / name) for name in ("all", "maps")]
    maps = [np.array(Pictures.open(one.labels(image, "RS-Net", 16))) for one in folders]
    assert maps[0].shape == (200, 300)
    np.testing.assert_array_equal(maps[0], maps[1])
    files = [path for path in folders[1].root.rglob("*") if path.is_file()]
    assert files == [folders[1].labels(image, "RS-Net", 16)]
    assert files == folders[1].files([image], ["RS-Net"], [16], pictures=False)


def test_colours_that_are_made_once_count_for_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "a.png"
    Pictures.fromarray(some_image()).save(image)
    clock = [0.0]

    def colours(_: Predictor) -> NDArray[np.uint8]:
        clock[0] += 100.0
        return np.zeros((len(CLASSES), 3), dtype=np.uint8)

    monkeypatch.setattr(Predictor, "colours", property(colours))
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    results = predict_files([predictor()], [image], tmp_path / "out", pictures=False)
    assert clock[0] > 0  # They have been made,
    assert [result.stages.total for result in results] == [0.0, 0.0]  # and nothing else took time.


@pytest.mark.parametrize("order", ["inet first", "rsnet first"])
def test_network_of_one_resolution_is_shown_at_all_those_of_the_other(
    tmp_path: Path, order: str
) -> None:
    image = save(tmp_path / "a.png", some_image())
    single = SwitchableNet(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), [32])
    pair = [predictor("I-Net", net=single), predictor("RS-Net")]
    networks = pair if order == "inet first" else pair[::-1]
    results = predict_files(networks, [image], tmp_path / "out")
    sides = [32, 16]
    assert [(r.network, r.resolution) for r in results] == [
        (network.name, side) for network in networks for side in sides
    ]


def test_resolution_that_the_second_network_cannot_compute_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    single = SwitchableNet(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), [32])
    networks = [predictor("I-Net", net=single), predictor("RS-Net")]
    assert common_resolutions(networks) == [32, 16]
    compute = TorchExecutor.logits

    def of_one_size(executor: TorchExecutor, images: Any, resolution: int) -> Any:
        if resolution not in executor.resolutions:
            raise ValueError("exported for one resolution")
        return compute(executor, images, resolution)

    monkeypatch.setattr(TorchExecutor, "logits", of_one_size)
    assert common_resolutions(networks) == [32]
    assert common_resolutions(networks[::-1]) == [32, 16]


def test_existing_files_are_kept_unless_asked_for(tmp_path: Path) -> None:
    image = save(tmp_path / "a.png", some_image())
    run: Callable[..., Any] = lambda **options: predict_files(  # noqa: E731
        [predictor()], [image], tmp_path / "out", resolutions=[16], **options
    )
    run()
    picture = OutputFolder(tmp_path / "out").picture(image)
    picture.write_text("mine")
    with pytest.raises(ValueError, match=r"3 of the 3 files to be written exist, .* --overwrite"):
        run()
    assert picture.read_text() == "mine"
    run(overwrite=True)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_interruption_leaves_whole_files_and_no_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = save(tmp_path / "a.png", some_image())
    write = Path.write_bytes

    def interrupted(path: Path, content: bytes) -> int:
        if "overlays" not in path.parts:
            return write(path, content)
        write(path, content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_files([predictor()], [image], tmp_path / "out", resolutions=[16])
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert left == [OutputFolder(tmp_path / "out").labels(image, "RS-Net", 16)]
    with Pictures.open(left[0]) as labels:
        labels.load()


def test_what_is_read_is_never_written_over(tmp_path: Path) -> None:
    labels = tmp_path / "labels" / "RS-Net_16"
    labels.mkdir(parents=True)
    image = save(labels / "a.png", some_image())
    with pytest.raises(ValueError, match=r"a\.png is read and would be written over"):
        predict_files([predictor()], [image], tmp_path, resolutions=[16], overwrite=True)


@pytest.mark.parametrize(
    ("networks", "names", "resolutions", "message"),
    [
        ("aa", "x.png", [32], "two networks are named 'a'"),
        ("ab", "x.png y/x.jpg", [32], "x.png and .*x.jpg would be written to the same files"),
        ("ab", "x.png", [32, 32], "resolution 32 is given twice"),
        ("ab", "x.png", [16, 32], "from large to small"),
        ("ab", "x.png", [9999], "from 1 to 4096"),
    ],
)
def test_requests_that_contradict_themselves_are_refused_before_anything_is_written(
    tmp_path: Path, networks: str, names: str, resolutions: list[int], message: str
) -> None:
    images = [save(tmp_path / name, some_image()) for name in names.split()]
    predictors = [predictor(name) for name in networks]
    with pytest.raises(ValueError, match=message):
        predict_files(predictors, images, tmp_path / "out", resolutions=resolutions)
    assert not (tmp_path / "out").exists()


def test_table_has_accuracies_only_with_ground_truth(tmp_path: Path) -> None:
    image = save(tmp_path / "a.png", some_image())
    results = predict_files([predictor()], [image], tmp_path / "out", resolutions=[32, 16])
    lines = table(results).splitlines()
    times = ["total", "ms", "decode", "view", "network", "label", "map", "encode"]
    head = ["image", "network", "resolution", *times]
    assert lines[0].split() == head
    assert [line.split()[:3] for line in lines[1:]] == [
        ["a.png", "RS-Net", "32"],
        ["a.png", "RS-Net", "16"],
    ]
    assert len({len(line) for line in lines}) == 1


def save(path: Path, picture: Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pictures.fromarray(picture).save(path)
    return path
