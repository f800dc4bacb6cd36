"""Peers compute what ours compute, and known times give known tables. No test looks at a clock."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import (
    distributed,
    end_to_end,
    formats,
    growth,
    inference,
    label_maps,
    loader,
    machine,
    nyudv2,
    onnx_files,
    optimizer,
    pixelwise,
    quantization,
    report,
    step,
    targets,
)
from benchmarks.harness import Case, Measured, Timed, Work, compared, interleaved, records, table
from benchmarks.machine import EXACT, RETAINING, environment_of
from benchmarks.peers import pairwise_loss, resized, straightforward_loss
from benchmarks.runner import command_line, make_parser, measure, run
from datasets.rooms.room import write_rooms
from rsseg.images.preprocessing import Preprocessing
from rsseg.losses.mred import mred_loss
from rsseg.training.step import StepSettings
from tests.helpers import linked_job, processes
from tests.helpers.processes import ROOT

CPU = torch.device("cpu")


class FakeTime:
    """A clock that only the works move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def work(self, name: str, seconds: list[float], units: int = 1) -> Work:
        left = iter(seconds)

        def call() -> None:
            self.ran.append(name)
            self.now += next(left)

        return Work(call, units=units)


def fake_case(peer: str | None = None) -> tuple[Case, dict[str, Timed]]:
    clock = FakeTime()
    works = {
        "slow": clock.work("slow", [9, 4, 6, 8]),
        "fast": clock.work("fast", [9, 4, 2, 2], units=2),
    }
    times = interleaved(works, 3, clock=lambda: clock.now)
    assert clock.ran == ["slow", "fast"] * 4
    case = Case("fake", {name: partial(works.__getitem__, name) for name in works}, {}, peer)
    return case, {name: Timed(times[name], {}) for name in works}


def test_variants_run_in_turn_and_the_first_round_does_not_count() -> None:
    times = {name: timed.times for name, timed in fake_case()[1].items()}
    assert times == {"slow": [4, 6, 8], "fast": [2, 1, 1]}


def test_ratios_are_those_of_each_round() -> None:
    case, timed = fake_case()
    slow, fast = compared(case, timed, {"slow": 400, "fast": 100}, {"fast": 700})
    assert (slow.ratios, fast.ratios) == ([1, 1, 1], [2, 6, 8])
    assert (slow.memory_ratio, fast.memory_ratio) == (1, 0.25)


def test_named_peer_replaces_the_first() -> None:
    case, timed = fake_case(peer="fast")
    slow, fast = compared(case, timed, {}, {})
    assert (slow.ratios, fast.ratios) == ([2 / 4, 1 / 6, 1 / 8], [1, 1, 1])
    assert slow.memory_ratio is None


def test_table_shows_median_and_range() -> None:
    case, timed = fake_case()
    memory = {"slow": 400 << 20, "fast": 100 << 20}
    text = table(case, compared(case, timed, memory, {"fast": 150 << 20}))
    last = text.splitlines()[-1].split()
    assert last == ["fast", "1000", "6.00", "(2.00..8.00)", "100", "0.250", "150"]


def copied_to_peer(ours: step.OurStep, peer: step.PublishedStep) -> None:
    """Give the peer the weights of ours: its shared layers lie one level deeper."""
    own, names = peer.net.state_dict(), [str(r) for r in ours.net.resolutions]
    state = {}
    for key, value in ours.net.state_dict().items():
        name = key.removeprefix("network.")
        for index, resolution in enumerate(names):
            name = name.replace(f".sets.{resolution}.", f".sets.{index}.")
        if name not in own:
            layer, _, kind = name.rpartition(".")
            name = f"{layer}.layer.{kind}"
        state[name] = value.clone()
    peer.net.load_state_dict(state)


@pytest.mark.parametrize("name", ["NCHW", "channels_last", "checkpoint", "two_pass"])
def test_published_step_has_our_losses(name: str) -> None:
    sizes = step.Sizes((96, 64), batch=4, classes=5, device=CPU)
    torch.manual_seed(0)
    ours, peer = step.OurStep(sizes, step.FORMS[name]), step.PublishedStep(sizes)
    copied_to_peer(ours, peer)
    views, target = sizes.drawn(4, torch.contiguous_format)
    # The second step tells whether the first has trained alike; training enlarges rounding.
    for tolerance in (1e-5, 1e-3):
        for own, other in zip(ours(views, target), peer(views, target), strict=True):
            torch.testing.assert_close(own, other.detach(), rtol=tolerance, atol=tolerance)


def test_pairwise_loss_is_the_reference() -> None:
    logits = [3 * torch.randn(4, 7) for _ in range(5)]
    target, scores = torch.randint(7, (4,)), torch.randn(5)
    ours, peer = mred_loss(logits, target, scores), pairwise_loss(logits, target, scores)
    for own, other in zip(ours, peer, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["log-softmax shared", "ours"])
def test_losses_of_label_maps_and_their_gradients_are_the_peers(name: str) -> None:
    sizes = pixelwise.Sizes((48, 32, 16), batch=2, classes=6, device=CPU)
    peer = pixelwise.Differentiated(straightforward_loss, sizes)
    ours = pixelwise.Differentiated(pixelwise.LOSSES[name], sizes)
    assert (ours.labels == 255).any()
    own, other = ours(), peer()
    torch.testing.assert_close(own.total, other.total, rtol=1e-5, atol=1e-5)
    pairs = zip([*ours.logits, ours.scores], [*peer.logits, peer.scores], strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_segmenter_steps_train_alike() -> None:
    sizes = pixelwise.Sizes((64, 48), batch=2, classes=4, device=CPU)
    losses = []
    for name in ("straightforward", "ours"):
        torch.manual_seed(0)
        one = pixelwise.SegmenterStep(
            pixelwise.LOSSES[name], sizes, encoder="resnet18", width=8, precision="fp32"
        )
        assert one.settings == StepSettings()
        torch.manual_seed(1)
        losses.append(torch.stack([one().total, one().total, one.warm().total]))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    for seed in range(3):
        loader.draw_image(tmp_path / f"{seed}.jpg", seed)
    return loader.find_images(tmp_path, 3)


def test_views_differ_from_those_of_pillow_by_less_than_a_level(photos: list[Path]) -> None:
    assert all(40_000 < path.stat().st_size < 200_000 for path in photos)
    for decoder in ("pillow", "fast"):
        assert loader.difference(photos, (96, 64), decoder) < 1


def test_published_views_are_those_of_pillow_normalised(photos: list[Path]) -> None:
    published = loader.published_views(photos[0], 7, (64, 32))
    for view, other in zip(published, loader.pillow_views(photos[0], 7, (64, 32)), strict=True):
        torch.testing.assert_close(view, Preprocessing().normalise(other))


def test_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no images"):
        loader.find_images(tmp_path, 3)


def test_every_form_of_the_data_gives_the_same_samples(tmp_path: Path) -> None:
    write_rooms(tmp_path / "rooms.mat", 5, size=(48, 64))
    readers = [form() for form in nyudv2.forms(tmp_path / "rooms.mat", tmp_path).values()]
    for samples in zip(*readers, strict=True):
        assert all((s.image == samples[0].image).all() for s in samples)
        assert all((s.labels == samples[0].labels).all() for s in samples)


def test_folded_network_repeats_the_logits() -> None:
    torch.manual_seed(0)
    net = inference.make_net((64, 32), CPU)
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        logits = net.predict(image)
        own = inference.folded(net.specialize(32))(image)
        torch.testing.assert_close(own, logits, rtol=1e-3, atol=1e-3)
        assert not torch.allclose(inference.folded(net.specialize(64))(image), logits, rtol=1e-2)


def test_fit_of_a_power_gives_its_exponent() -> None:
    line = growth.fit([1, 2, 4, 8], [5, 7, 11, 19])
    assert (line.slope, line.intercept, line.r2) == pytest.approx((2, 3, 1))
    assert growth.fit([1, 2, 4], [3, 12, 48]).exponent == pytest.approx(2)


@pytest.mark.parametrize(
    ("main", "arguments", "lines"),
    [
        (step.main, ["--batch", "2", "--resolutions", "32", "--classes", "3"], 7),
        (pixelwise.main, ["--batch", "1", "--resolutions", "32", "16", "--classes", "3"], 3),
        (loader.main, ["--count", "2", "--resolutions", "32", "16"], 4),
        (nyudv2.main, ["--count", "3", "--size", "48", "64", "--resolutions", "32", "16"], 6),
        (inference.main, ["--no-compile", "--passes", "1", "--resolutions", "48", "32"], 11),
        (label_maps.main, ["--side", "8", "--classes", "3"], 6),
        (onnx_files.main, ["--passes", "1", "--resolutions", "48", "32"], 17),
        (
            formats.main,
            ["--formats", "openvino", "--passes", "1", "--resolutions", "48", "32"],
            6,
        ),
        (
            quantization.main,
            ["--shape", "2", "3", "8", "8", "--resolutions", "32", "--batch", "2"],
            6,
        ),
        (optimizer.main, ["--encoder", "resnet18"], 6),
        (growth.main, ["--short", "--side", "32", "--batch", "2", "--label-side", "32"], 4),
    ],
    ids=[
        "step",
        "pixelwise",
        "loader",
        "nyudv2",
        "inference",
        "label_maps",
        "onnx_files",
        "formats",
        "quantization",
        "optimizer",
        "growth",
    ],
)
def test_command_appends_its_records_and_the_report_shows_them(
    main: Callable[[list[str]], int],
    arguments: list[str],
    lines: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Exporting a real network takes most of the time.
    monkeypatch.setitem(onnx_files.NETWORKS, "resnet18", ("classification", small_classifier))
    monkeypatch.setattr(label_maps, "SIZES", ((24, 32), (60, 80)))
    common = ["--rounds", "1", "--threads", "1", "--device", "cpu", "--no-memory"]
    out = tmp_path / "results" / "x.jsonl"
    assert main([*arguments, *common, "--out", str(out)]) == 0
    found = report.read_results(out.parent)
    assert len(found) == lines
    assert all(str(tmp_path) not in json.dumps(record) for record in found)
    (lines_of_class,) = report.sections(found).values()
    assert f"    {found[0]['command']}" in lines_of_class


def test_script_measures_its_memory_though_nothing_is_installed(tmp_path: Path) -> None:
    sizes = ["--batch", "4", "--resolutions", "160", "96", "--classes", "20"]
    script = [sys.executable, str(ROOT / "benchmarks" / "pixelwise.py"), "--device", "cpu"]
    process = subprocess.run(
        [*script, *sizes, "--memory-of", "loss", "straightforward"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    # In units of the labels' size times the classes the graph keeps two logits, three log-softmaxes
    # for the cross entropies, and two softmaxes for each of three divergences: 11.
    assert 11 < json.loads(process.stdout) / (4 * 20 * 160 * 160 * 4) < 30


def small_classifier() -> nn.Module:
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers)


def fake_options(out: Path) -> Any:
    options = make_parser("step", "").parse_args(["--rounds", "2", "--out", str(out)])
    options.device, options.command = CPU, "python -m benchmarks.step"
    return options


def test_memory_comes_from_a_process_for_each_variant(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "print('loading')\n"
        "exact = 'MALLOC_MMAP_THRESHOLD_' in os.environ\n"
        "print({'a': 8, 'b': 2 if exact else 3, 'c': 'null'}[sys.argv[-1]])\n"
    )
    case = Case("fake", dict.fromkeys("abc", lambda: Work(int)), {})
    a, b, c = measure(str(script), [], fake_options(tmp_path / "x"), case)
    assert (a.memory, b.memory, c.memory) == (8, 2, None)
    assert (a.memory_ratio, b.memory_ratio, c.memory_ratio) == (1, 0.25, None)
    assert (a.resident, b.resident, c.resident) == (8, 3, None)


def test_rounds_of_several_processes_are_put_together(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys\n"
        "assert sys.argv[1:] == ['--short', '--times-of', 'fake']\n"
        "print('loading')\n"
        "print(json.dumps({'a': [[8, 6], {}], 'b': [[2, 3], {'n': 5}]}))\n"
    )
    case = Case("fake", dict.fromkeys("ab", lambda: Work(int)), {}, memory=False)
    options = fake_options(tmp_path / "x")
    options.launches = 3
    a, b = measure(str(script), ["--short"], options, case)
    assert (a.times, b.times, b.notes) == ([8, 6] * 3, [2, 3] * 3, {"n": 5})
    assert b.ratios == [4, 2] * 3


def test_failed_process_names_the_variant(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit(3)\n")
    case = Case("fake", {"a": lambda: Work(int)}, {})
    with pytest.raises(RuntimeError, match="'--memory-of' 'fake' 'a' failed with status 3"):
        measure(str(script), [], fake_options(tmp_path / "x"), case)


def test_another_allocator_is_another_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    told = tmp_path / "told"
    script.write_text(
        "import os, sys\n"
        f"with open({str(told)!r}, 'a') as file:\n"
        "    print(os.environ.get('MALLOC_MMAP_MAX_'), *sys.argv[1:], file=file)\n"
    )
    arguments = ["--allocator", "both", "--rounds", "2"]
    assert run(str(script), make_parser("step", ""), lambda _: [], arguments) == 0
    lines = told.read_text().splitlines()
    assert lines == ["None --rounds 2 --allocator default", "0 --rounds 2 --allocator retaining"]


def test_environment_of_an_allocator_is_set_and_removed() -> None:
    retaining = environment_of("retaining", {"PATH": "x"})
    assert retaining == {"PATH": "x", **RETAINING}
    assert environment_of("default", retaining) == {"PATH": "x"}
    assert environment_of("exact", retaining) == {"PATH": "x", **EXACT}
    assert environment_of("default", EXACT) == {}


def test_recorded_command_names_no_place_of_this_machine() -> None:
    given = ["--short", "--out", "/tmp/x.jsonl", "--mat", "/data/a.mat", "--rounds", "3"]
    bare = "python -m benchmarks.nyudv2 --short --mat PATH --rounds 3"
    assert command_line("nyudv2", given, {"HOME": "/root"}) == bare
    narrow = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    command = f"ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 {bare}"
    assert command_line("nyudv2", given, narrow) == command


def fake_records(tmp_path: Path) -> list[dict[str, Any]]:
    case, timed = fake_case()
    measured = compared(case, timed, {"slow": 400, "fast": 100}, {"fast": 700})
    return records(fake_options(tmp_path / "x"), case, measured)


@pytest.mark.parametrize(("speed", "answer"), [(6.0, "met"), (6.1, "**missed**")])
def test_report_judges_targets_by_the_median(tmp_path: Path, speed: float, answer: str) -> None:
    target = targets.Target("fake", "step", "fake", "fast", speed=speed, memory=0.25)
    (lines,) = report.sections(fake_records(tmp_path), [target]).values()
    row = f"| fake | cpu | any | speed >= {speed:.3g}, memory <= 0.25 | speed 6, memory 0.25 |"
    assert f"{row} {answer} |" in lines
    assert "| fast | 1000 | 6.00 (2.00..8.00) | 9.54e-05 | 0.250 | 0.000668 |" in lines


def test_target_of_other_sizes_or_allocator_is_not_measured(tmp_path: Path) -> None:
    found = fake_records(tmp_path)
    for options in ({"allocator": "retaining"}, {"sizes": {"batch": 2}}, {"device": "cuda"}):
        target = targets.Target("fake", "step", "fake", "fast", speed=1.0, **options)
        assert targets.judge(target, found).met is None


def test_report_takes_the_newest_measurement(tmp_path: Path) -> None:
    old = fake_records(tmp_path)
    new = [{**record, "measured": "2999-01-01", "times": [0.007]} for record in old]
    (group,) = report.newest([*new, *old])
    assert group == new


def test_report_leaves_what_stands_around_the_markers(tmp_path: Path) -> None:
    document, results = tmp_path / "B.md", tmp_path / "results"
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    results.mkdir()
    lines = [json.dumps(record) for record in fake_records(tmp_path)]
    (results / "step.jsonl").write_text("\n".join(lines))
    for _ in range(2):
        assert report.main(["--results", str(results), "--document", str(document)]) == 0
        text = document.read_text()
        assert text.startswith(f"before\n{report.BEGIN}\n")
        assert text.endswith(f"{report.END}\nafter\n")
        assert text.count("## step: fake") == 1
        assert "old" not in text


def of_class(records: list[dict[str, Any]], name: str, **machine: str) -> list[dict[str, Any]]:
    """The same records, as measured on a machine of another class."""
    return [{**r, "machine": {**r["machine"], "class": name, **machine}} for r in records]


def test_every_class_of_machines_keeps_its_own_section(tmp_path: Path) -> None:
    found = fake_records(tmp_path)
    document = f"{report.BEGIN}\n{report.END}\n"
    for name in ("AVX-512 bf16", "AVX2"):
        measured = report.sections(of_class(found, name))
        assert list(measured) == [name]
        document = report.inserted(document, measured, tmp_path)
    headings = [line for line in document.splitlines() if line.startswith(report._SECTION)]
    assert headings == ["## AVX2", "## AVX-512 bf16"]
    assert document.count("### step: fake") == 2
    assert document.count("(AVX-512 bf16), ") == document.count("(AVX2), ") == 1
    # Measured again on one of them, the other is left as it is.
    again = report.sections(of_class(found, "AVX2", cpu="Another"))
    other = report.inserted(document, again, tmp_path)
    begin = document.index("## AVX-512 bf16")
    assert other[other.index("## AVX-512 bf16") :] == document[begin:]
    assert "Another (AVX2), " in other
    assert report.sections(of_class(found, "AVX2", device="a GPU")).keys() == {"CUDA"}


def test_targets_of_bf16_are_for_classes_that_have_it() -> None:
    bf16 = {target.what for target in targets.TARGETS if target.is_for("AVX-512 bf16")}
    avx2 = {target.what for target in targets.TARGETS if target.is_for("AVX2")}
    assert bf16 - avx2 == {"step, bf16", "step, little memory, bf16"}
    assert {"step, fp32", "RefineNet-101 step", "pixel-wise loss"} < avx2 < bf16
    gpu = [target for target in targets.TARGETS if target.is_for("CUDA")]
    assert {target.device for target in gpu} == {"cuda"}
    assert len(gpu) == 4


def test_what_a_class_does_not_compute_is_left_out_in_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "computes_bf16", lambda _: False)
    monkeypatch.setattr(machine, "processor_class", lambda: "AVX2")
    out = tmp_path / "results" / "step.jsonl"
    sizes = ["--batch", "2", "--resolutions", "32", "--classes", "3", "--rounds", "1"]
    common = ["--threads", "1", "--device", "cpu", "--no-memory", "--out", str(out)]
    assert step.main([*sizes, *common]) == 0
    output, progress = capsys.readouterr()
    for name in ("bf16", "checkpoint bf16"):
        assert f"{name}: left out, AVX2 does not compute in bf16" in output.splitlines()
        assert f"step: {name} is left out, AVX2 does not compute in bf16" in progress
    (lines,) = report.sections(report.read_results(out.parent)).values()
    row = "| bf16 | left out: AVX2 does not compute in bf16 | - | - | - | - |"
    assert row in lines
    assert any(line.startswith("| two_pass | ") for line in lines)
    target = targets.Target("bf16", "step", "step", "bf16", speed=0.0)
    assert targets.judge(target, report.read_results(out.parent)).met is None


def test_rows_are_told_as_they_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []

    def slow() -> None:
        told.append(capsys.readouterr().err)

    case = Case("fake", {"a": lambda: Work(slow), "b": lambda: Work(slow)}, {}, memory=False)
    options = fake_options(tmp_path / "x")
    measure("none", [], options, case)
    told.append(capsys.readouterr().err)
    # Two calls in the round that does not count, two in each of two rounds, and the end.
    assert told[:5] == ["", "fake: a has run once\n", "fake: b has run once\n", "", ""]
    assert told[5].startswith("fake: a ")
    assert told[6].startswith("fake: b ")
    assert ", speed " in told[6]


def test_results_of_earlier_versions_are_left_out_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, old = fake_records(tmp_path)
    without_class = {key: value for key, value in old["machine"].items() if key != "class"}
    old = {**old, "machine": without_class}
    (tmp_path / "x.jsonl").write_text(f"{json.dumps(new)}\n{json.dumps(old)}\n")
    assert report.read_results(tmp_path) == [new]
    assert "1 record without a class of machines left out" in capsys.readouterr().out


def test_document_without_markers_or_folder_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold the line <!-- benchmarks: begin"):
        report.inserted("text", {}, tmp_path)
    with pytest.raises(ValueError, match="holds no results"):
        report.read_results(tmp_path)
    (tmp_path / "x.jsonl").write_text("{}\nno\n")
    with pytest.raises(ValueError, match=r"x\.jsonl, line 2 is no JSON"):
        report.read_results(tmp_path)


def test_document_of_this_checkout_has_the_markers() -> None:
    text = (ROOT / report.DOCUMENT).read_text(encoding="utf-8")
    assert report.inserted(text, {}, report.DOCUMENT) == text  # Nothing measured, nothing moved.


@pytest.mark.parametrize("way", label_maps.WAYS)
def test_all_ways_give_the_label_map_of_the_peer(way: str) -> None:
    logits = label_maps.drawn_logits(classes=40, side=12, seed=0)
    labels = label_maps.WAYS[way](logits, (97, 130))
    resized = F.interpolate(logits[None], size=(97, 130), mode="bilinear", align_corners=False)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), resized[0].argmax(dim=0))


def test_bytes_a_pixel_of_a_label_map_are_noted(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    options = argparse.Namespace(
        **{"benchmark": "label_maps", "allocator": "default", "device": CPU, "out": out},
        **{"seed": 0, "rounds": 1, "launches": 1, "command": "none"},
    )
    case = Case("12x10", {}, {"size": [12, 10]}, peer="ours")
    one = Measured("ours", [1.0], [1.0], 360, 1.0, None, {"disputed": 0.5})
    label_maps.finish(options, case, [one, replace(one, memory=None)])
    notes = [json.loads(line)["notes"] for line in out.read_text().splitlines()]
    assert notes == [{"disputed": 0.5, "bytes a pixel": 3.0}, {"disputed": 0.5}]


def test_network_of_the_label_maps_without_an_image_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        label_maps.main(["--network", "x.pt"])
    assert "give --network and --image together" in capsys.readouterr().err


def test_resized_logits_are_those_of_torch() -> None:
    logits, labels = torch.randn(1, 2, 4, 4).bfloat16(), torch.zeros(1, 8, 8, dtype=torch.uint8)
    expected: Tensor = F.interpolate(logits.float(), size=(8, 8), mode="bilinear")
    torch.testing.assert_close(resized([logits], labels)[0], expected)


def test_gradients_sent_during_the_backward_pass_train_as_those_sent_afterwards(
    tmp_path: Path,
) -> None:
    started = processes.start(linked_job.main, [], tmp_path, 2)
    assert processes.finish(started) == [0, 0], [one.printed for one in started]


def test_processes_behind_a_slow_link_are_measured_together(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    sizes = ["--resolutions", "32", "16", "--batch", "2", "--classes", "5", "--rate", "20000"]
    assert distributed.main(["--rounds", "1", *sizes, "--out", str(out)]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["variant"] for line in lines] == ["afterwards", "during", "during, bf16"]
    assert {line["peer"] for line in lines} == {"afterwards"}
    assert lines[0]["sizes"]["link"] in ("tc", "simulated")
    assert lines[0]["command"].startswith("python -m benchmarks.distributed --rounds 1")


def test_simulated_link_takes_the_time_of_the_bytes_of_both_directions() -> None:
    begin = time.monotonic()
    distributed.SimulatedLink(8.0).carry(50_000)  # A million bytes a second.
    assert time.monotonic() - begin >= 0.1


@pytest.mark.parametrize("subject", end_to_end.SUBJECTS, ids=lambda subject: subject.task)
def test_answers_end_to_end_are_the_peers(subject: end_to_end.Subject) -> None:
    small = replace(subject, resolutions=(64, 32))
    net = end_to_end.make_net(small)
    predictor, content = end_to_end.make_predictor(small, net), end_to_end.photo_bytes((120, 160))
    for side in (64, 32):
        expected = end_to_end.straightforward(predictor, net, content, side)
        ours = end_to_end.answer(predictor, content, side)
        assert ours.shape == expected.shape == ((120, 160) if ours.ndim == 2 else (1000,))
        if ours.ndim == 2:  # Rounding decides where the best two values are equal.
            assert (ours == expected).float().mean() > 0.999
        else:  # Views of the reduced photo differ by less than a grey level.
            torch.testing.assert_close(ours, expected, rtol=0.2, atol=1e-4)


def test_share_of_the_networks_gain_is_that_of_the_ratios() -> None:
    times = {"ours, 96": [2.0, 1.0], "ours, 352": [6.0, 3.0]}
    times |= {"network, 96": [1.0, 1.0], "network, 352": [5.0, 5.0]}
    assert end_to_end.ratio(times, "ours", 352, 96) == 3
    assert end_to_end.ratio(times, "network", 352, 96) == 5
