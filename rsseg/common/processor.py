"""The class of the processor: the widest instructions that it has, and that torch may use.

What a step takes, and whether bf16 is fast, depends on it. The environment may narrow it, for torch
with ATEN_CPU_CAPABILITY, for the convolutions of oneDNN with ONEDNN_MAX_CPU_ISA; so a test of
another machine reads as that machine.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch

AVX2, AVX512, AVX512_BF16, AMX = "AVX2", "AVX-512", "AVX-512 bf16", "AMX"
ARM, ARM_BF16, OTHER = "ARM", "ARM bf16", "other"
WITH_BF16: Final = (AVX512_BF16, AMX, ARM_BF16)

_X86: Final = (OTHER, AVX2, AVX512, AVX512_BF16, AMX)  # each has the instructions of those before
# Words of /proc/cpuinfo. AMX without amx_bf16 multiplies whole numbers alone.
_FLAGS: Final = {"avx2": AVX2, "avx512f": AVX512, "avx512_bf16": AVX512_BF16, "amx_bf16": AMX}
# Source: https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
_ONEDNN: Final = {
    **dict.fromkeys(("SSE41", "AVX"), OTHER),
    **dict.fromkeys(("AVX2", "AVX2_VNNI", "AVX2_VNNI_2"), AVX2),
    **dict.fromkeys(("AVX512_CORE", "AVX512_CORE_VNNI"), AVX512),
    **dict.fromkeys(("AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX10_1_512"), AVX512_BF16),
}


def processor_class(
    root: Path = Path("/"), environment: Mapping[str, str] = os.environ, torch_uses: str = ""
) -> str:
    """Return the class of the processor, one of the names above.

    A system without /proc/cpuinfo, so all but Linux, does not say whether there is bf16: the class
    is then what torch says, at most AVX-512.

    Args:
        root: That of the file system.
        environment: Variables that narrow what is used.
        torch_uses: What `torch.backends.cpu.get_cpu_capability` returns; empty asks it.
    """
    words = _words(root / "proc/cpuinfo")
    if "asimd" in words or (not words and platform.machine().lower() in ("arm64", "aarch64")):
        return ARM_BF16 if "bf16" in words else ARM
    own = [name for flag, name in _FLAGS.items() if flag in words] if words else [AVX512]
    limits = [
        max([OTHER, *own], key=_X86.index),
        _limit_of_torch(torch_uses or torch.backends.cpu.get_cpu_capability()),
        _ONEDNN.get(environment.get("ONEDNN_MAX_CPU_ISA", "").upper(), AMX),
    ]
    return min(limits, key=_X86.index)


def _limit_of_torch(capability: str) -> str:
    if capability.startswith("AVX512"):
        return AMX  # Whether there is more than AVX-512, torch does not say.
    return AVX2 if capability == "AVX2" else OTHER


def _words(path: Path) -> set[str]:
    try:
        return set(path.read_text(encoding="utf-8").split())
    except OSError:
        return set()


def computes_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies in bf16 itself; one that does not, emulates it slowly."""
    if device.type == "cuda":
        # torch.cuda.is_bf16_supported counts emulation; compute capability 8.0 (Ampere) has bf16.
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and processor_class() in WITH_BF16


def is_emulated(precision: str, device: str, *, bf16: bool) -> bool:
    """Return whether a kind of device, "cpu" or "cuda", has to emulate a number format.

    Args:
        precision: "fp32", "bf16" or "fp16".
        device: Kind of the device.
        bf16: Whether it multiplies in bf16 itself.
    """
    return (precision == "bf16" and not bf16) or (precision == "fp16" and device == "cpu")
