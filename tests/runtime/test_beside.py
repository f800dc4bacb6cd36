"""Facts about damaged files beside a network: it is used without them, and a warning names them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rsseg.cli import main as cli
from rsseg.common.config import plain
from rsseg.runtime.accuracies import accuracies_beside
from rsseg.runtime.benchmark import report
from rsseg.runtime.budget.table import find_rows
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.serve.server import Options, open_service
from rsseg.runtime.web import export
from tests.helpers import processes
from tests.helpers.small_exported import description, small_net, write_onnx
from tests.helpers.small_latencies import HERE, row

Damage = Callable[[Path], object]


def text(content: str) -> Damage:
    return lambda path: path.write_text(content, encoding="utf-8")


def metrics(row: object) -> str:
    return json.dumps({"metrics": {"64": row}})


ANY_FILE: dict[str, Damage] = {
    "empty": text(""),
    "cut off": text('{"metrics": {"64": {"top1"'),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00\x01"),
    "a folder": lambda path: path.mkdir(),
    "a list": text("[1, 2]"),
    "a number": text("3"),
    "deep": text("[" * 100_000),
}
RESULTS: dict[str, Damage] = ANY_FILE | {
    "no metrics": text('{"task": "classification"}'),
    "metrics of another kind": text('{"metrics": 3}'),
    "empty metrics": text('{"metrics": {}}'),
    "metrics of another version": text(metrics({"accuracy": 0.7})),
    "in percent": text(metrics({"top1": 71.2})),
    "negative": text(metrics({"top1": -0.1})),
    "huge": text('{"metrics": {"64": {"top1": 1' + "0" * 400 + "}}}"),
    "no number": text(metrics({"top1": "high"})),
    "missing": text(metrics({"top1": None})),
}
TABLES: dict[str, Damage] = ANY_FILE | {
    "another version": text('{"entries": [], "format": 9}'),
    "other entries": text('{"entries": [{"rows": NaN}], "format": 1}'),
}


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "net.onnx", small_net(), description())


@pytest.mark.parametrize("kind", RESULTS)
def test_damaged_results_are_left_out_with_a_warning_that_names_them(
    network: Path, kind: str
) -> None:
    RESULTS[kind](network.with_name("results.json"))
    with pytest.warns(UserWarning, match=r"results\.json.*; accuracies are left out"):
        assert accuracies_beside(network, plain(description())) is None


@pytest.mark.parametrize("content", [metrics({"top1": float("nan")}), metrics({"top1": 1e999})])
def test_metric_that_is_not_finite_is_not_known(network: Path, content: str) -> None:
    network.with_name("results.json").write_text(content)
    assert accuracies_beside(network, plain(description())) is None


@pytest.mark.parametrize("kind", TABLES)
def test_damaged_table_of_latencies_is_left_out_with_a_warning_that_names_it(
    network: Path, kind: str
) -> None:
    TABLES[kind](network.with_name("net.latency.json"))
    with pytest.warns(UserWarning, match=r"net\.latency\.json.*; .* measured at each start"):
        assert find_rows(network, machine=HERE, executor="onnxruntime", threads=1) == ()


def damage_both(network: Path) -> None:
    for name in ("results.json", "net.latency.json"):
        network.with_name(name).write_text("{")


def test_service_starts_beside_damaged_files_and_has_no_accuracies(network: Path) -> None:
    damage_both(network)
    with pytest.warns(UserWarning, match="not a JSON file") as told:
        service = open_service(network, Options(threads=1))
    service.close()
    assert service.accuracies is None
    assert set(service.costs.expected()) == {64, 32}
    for name in ("results.json", "net.latency.json"):
        assert any(name in str(warning.message) for warning in told)


def test_folder_for_the_browser_is_written_without_accuracies(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_both(network)
    monkeypatch.setattr(export, "runtime_files", lambda _: {})
    web = network.parent / "web"
    with pytest.warns(UserWarning, match=r"results\.json.*; accuracies are left out"):
        assert cli.main(["export", str(network), "--web", str(web)]) == 0
    assert '"accuracy": null' in (web / "index.html").read_text(encoding="utf-8")


def test_command_warns_in_a_line_for_each_file_and_serves(network: Path, tmp_path: Path) -> None:
    damage_both(network)
    arguments = ["serve", network, "--port", "0", "--threads", "1"]
    (server,) = processes.start(cli.main, arguments, tmp_path, 1)
    try:
        end = time.monotonic() + processes.SECONDS
        while "listening" not in server.printed and server.process.is_alive():
            assert time.monotonic() < end
            time.sleep(0.01)
        warned = [line for line in server.printed.splitlines() if "arning" in line]
        assert [line[:22] for line in warned] == ["rsseg serve: warning: "] * 2
        assert "listening" in server.printed
    finally:
        processes.finish([server], seconds=0)


def test_measuring_leaves_damaged_results_out(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.with_name("results.json").write_text("{")
    monkeypatch.setattr(report, "measure_times", lambda *_, **__: [row(64, 4.0), row(32, 1.0)])
    command = ["profile", str(network), "--measure", "--no-memory", "--executors", "onnxruntime"]
    with pytest.warns(UserWarning, match="accuracies are left out"):
        assert cli.main(command) == 0
    table = json.loads(network.with_name("net.latency.json").read_text())
    assert [each["accuracy"] for each in table["entries"][0]["rows"]] == [None, None]


def test_measuring_refuses_a_damaged_table_before_it_measures(
    network: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured in vain")

    monkeypatch.setattr(report, "measure_times", never)
    network.with_name("net.latency.json").write_text("[1]")
    assert cli.main(["profile", str(network), "--measure", "--executors", "onnxruntime"]) == 2
    assert "net.latency.json is not a table of latencies" in capsys.readouterr().err
    assert network.with_name("net.latency.json").read_text() == "[1]"


def test_predictor_measures_where_its_table_is_damaged(network: Path) -> None:
    network.with_name("net.latency.json").write_text("{}")
    with pytest.warns(UserWarning, match="measured at each start"):
        budget = Predictor.open(network, threads=1).measure()
    assert set(budget.idle) == {64, 32}
