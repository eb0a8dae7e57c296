"""Memory of the process and of the device: before the model is opened, with the model, and at the end.

Process: VmRSS and VmHWM in ``/proc/self/status`` (proc(5)). Device: the memory used by all processes together as
reported by CUDA (on a Jetson that is the memory shared with everything else), and NVML's figure for this process.
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
    """Bytes at one moment; None if unknown.

    Attributes:
        resident: Main memory of this process.
        peak: Peak main memory since the process started.
        device: Device memory used by all processes; None on a CPU.
        device_process: Device memory of this process; None on a CPU, and if NVML does not report it.
    """

    resident: Optional[int]
    peak: Optional[int]
    device: Optional[int] = None
    device_process: Optional[int] = None


def read_memory(nvml: Optional[Nvml], *, on_gpu: bool, root: Path = Path("/")) -> Memory:
    """Reads the current memory use.

    Args:
        nvml: The discrete GPU; None without one.
        on_gpu: Whether the model runs on a GPU; otherwise device memory is not read.
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
        after: After the last run.
        context: Memory of one execution context according to the engine's manifest.
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
