"""Memory of the process and of the device, before the model, with it, and at the end.

Process: VmRSS and VmHWM of ``/proc/self/status`` (proc(5)). Device: what CUDA says is taken by all processes together
(on a Jetson that is the one memory, shared with everything else), and what NVML counts for this process.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

from googlenet_deploy.device.cuda.memory import open_cuda
from googlenet_deploy.device.system.nvml import Nvml
from googlenet_deploy.device.system.sysfs import try_text
from googlenet_deploy.errors import DeviceError


class Memory(NamedTuple):
    """Bytes at one moment; None where nobody tells.

    Attributes:
        resident: Main memory of this process.
        peak: The most of it since the process began.
        device: Device memory that all processes take; None on a CPU.
        device_process: Device memory of this process; None on a CPU, and where NVML does not tell.
    """

    resident: Optional[int]
    peak: Optional[int]
    device: Optional[int] = None
    device_process: Optional[int] = None


def read_memory(nvml: Optional[Nvml], *, on_gpu: bool, root: Path = Path("/")) -> Memory:
    """Memory now.

    Args:
        nvml: The discrete GPU; None without one.
        on_gpu: Whether the model runs on a GPU; else the device is not asked.
        root: Root of the file system.
    """
    text = try_text(root / "proc/self/status")
    resident, peak = _kilobytes(text, "VmRSS"), _kilobytes(text, "VmHWM")
    if not on_gpu:
        return Memory(resident, peak)
    device = device_process = None
    with suppress(DeviceError), open_cuda() as cuda:
        free, total = cuda.memory()
        device = total - free
    if nvml is not None:
        with suppress(DeviceError):
            device_process = nvml.process_bytes(os.getpid())
    return Memory(resident, peak, device, device_process)


def memory_dict(
    before: Memory, loaded: Memory, after: Memory, context: Optional[int], *, on_gpu: bool
) -> Dict[str, Any]:
    """For JSON, in bytes.

    Args:
        before: Before the model was opened.
        loaded: With the model opened and warmed up.
        after: Behind the last run.
        context: What the engine's manifest says that one execution context takes.
        on_gpu: Whether the model runs on a GPU.
    """
    process = {
        "resident_before_model": before.resident,
        "resident_with_model": loaded.resident,
        "resident_after": after.resident,
        "peak": after.peak,
    }
    if not on_gpu:
        return {"process": process, "device": {"not_measured": "the model runs on the CPU"}}
    device = {
        "all_processes_before_model": before.device,
        "all_processes_with_model": loaded.device,
        "all_processes_after": after.device,
        "this_process_after": after.device_process,
        "execution_context": context,
    }
    return {"process": process, "device": device}


def _kilobytes(text: str, name: str) -> Optional[int]:
    match = re.search(rf"^{name}:\s*(\d+) kB", text, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None
