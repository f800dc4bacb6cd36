"""The class of the processor, from what Linux says and what the environment narrows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rsseg.common import processor
from rsseg.common.processor import computes_bf16, is_emulated, processor_class
from tests.helpers.processes import ROOT

AVX512 = "avx avx2 avx512f avx512bw avx512vl"
# As Linux writes them, from processors of these kinds.
FLAGS = {
    "Core 2": ("flags\t: fpu sse sse2 ssse3", "DEFAULT", "other"),
    "Haswell": ("flags\t: fpu avx avx2 fma", "AVX2", "AVX2"),
    "Skylake": (f"flags\t: fpu {AVX512}", "AVX512", "AVX-512"),
    "Zen 4": (f"flags\t: fpu {AVX512} avx512_bf16", "AVX512", "AVX-512 bf16"),
    "Sapphire Rapids": (
        f"flags\t: fpu {AVX512} avx512_bf16 amx_bf16 amx_tile amx_int8",
        *("AVX512", "AMX"),
    ),
    "Zen 4, narrowed for torch": (f"flags\t: {AVX512} avx512_bf16", "AVX2", "AVX2"),
    "Neoverse N1": ("Features\t: fp asimd fphp", "DEFAULT", "ARM"),
    "Graviton 3": ("Features\t: fp asimd sve bf16 i8mm", "SVE256", "ARM bf16"),
}


@pytest.mark.parametrize(("text", "capability", "name"), FLAGS.values(), ids=FLAGS)
def test_class_follows_from_the_flags(
    tmp_path: Path, text: str, capability: str, name: str
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor\t: 0\n{text}\n")
    assert processor_class(tmp_path, {}, capability) == name


@pytest.mark.parametrize(
    ("isa", "name"),
    [
        *(("AVX2", "AVX2"), ("avx512_core", "AVX-512"), ("AVX512_CORE_BF16", "AVX-512 bf16")),
        *(("ALL", "AMX"), ("", "AMX"), ("SSE41", "other")),
    ],
)
def test_environment_of_onednn_narrows_the_class(tmp_path: Path, isa: str, name: str) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"flags\t: {AVX512} avx512_bf16 amx_bf16\n")
    assert processor_class(tmp_path, {"ONEDNN_MAX_CPU_ISA": isa}, "AVX512") == name


def test_system_that_says_nothing_has_no_bf16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    assert processor_class(tmp_path, {}, "AVX512") == "AVX-512"
    assert processor_class(tmp_path, {}, "AVX2") == "AVX2"
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert processor_class(tmp_path, {}, "DEFAULT") == "ARM"


@pytest.mark.slow
@pytest.mark.skipif(
    not torch.backends.cpu.get_cpu_capability().startswith("AVX"), reason="needs an x86 with AVX2"
)
def test_process_that_is_narrowed_reads_as_what_it_uses() -> None:
    code = "from rsseg.common.processor import processor_class; print(processor_class())"
    narrow = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    output = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **narrow, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.strip() == "AVX2"


@pytest.mark.parametrize(
    ("name", "fast"),
    [
        *(("AMX", True), ("AVX-512 bf16", True), ("ARM bf16", True)),
        *(("AVX-512", False), ("AVX2", False), ("ARM", False), ("other", False)),
    ],
)
def test_bf16_is_computed_where_the_class_has_it(
    monkeypatch: pytest.MonkeyPatch, name: str, fast: bool
) -> None:
    monkeypatch.setattr(processor, "processor_class", lambda: name)
    assert computes_bf16(torch.device("cpu")) is fast
    assert computes_bf16(torch.device("meta")) is False


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bf16_on_cuda_begins_with_ampere(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], fast: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert computes_bf16(torch.device("cuda")) is fast


def test_what_is_emulated_is_known_of_every_format() -> None:
    assert is_emulated("bf16", "cpu", bf16=False)
    assert is_emulated("fp16", "cpu", bf16=True)
    assert not is_emulated("bf16", "cpu", bf16=True)
    assert not is_emulated("fp16", "cuda", bf16=False)
    assert not is_emulated("fp32", "cpu", bf16=False)
