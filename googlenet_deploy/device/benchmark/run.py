"""Runs a benchmark: state, model, idle power, warm-up, rounds, memory, state again, and optionally trtexec."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

import numpy as np

from googlenet_deploy import __version__
from googlenet_deploy.device.benchmark.energy import idle_dict, not_measured
from googlenet_deploy.device.benchmark.inputs import (
    BenchmarkInputs,
    frame_inputs,
    make_batches,
    real_inputs,
    synthetic_inputs,
)
from googlenet_deploy.device.benchmark.loops import Length
from googlenet_deploy.device.benchmark.measure import Measurement, OpenRunner
from googlenet_deploy.device.benchmark.memory import Memory, memory_dict, read_memory
from googlenet_deploy.device.benchmark.result_file import FORMAT
from googlenet_deploy.device.benchmark.trtexec import run_trtexec, why_not_trtexec
from googlenet_deploy.device.onnx_model.header import model_sha256
from googlenet_deploy.device.power.energy import Measured, window_for
from googlenet_deploy.device.power.none import NoSampler
from googlenet_deploy.device.power.select import AnySampler, open_sampler
from googlenet_deploy.device.progress import progress
from googlenet_deploy.device.runner.protocol import Runner, TimedRun, check_shape
from googlenet_deploy.device.system.jetson import find_jetson
from googlenet_deploy.device.system.machine import LoadMonitor, MachineState, describe_machine, read_state, throttling
from googlenet_deploy.device.system.nvml import Nvml, cuda_bus_id
from googlenet_deploy.device.system.processor import available_cores
from googlenet_deploy.device.system.sysfs import try_text
from googlenet_deploy.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.benchmark.configuration import Configuration
    from googlenet_deploy.device.benchmark.loops import Clock
    from googlenet_deploy.device.benchmark.options import BenchmarkOptions
    from googlenet_deploy.device.images.sources import ImageSource
    from googlenet_deploy.device.specification import Preprocessing


# The maximum number of batches in `inputs.make_batches`, and the one being prepared.
BATCHES_HELD = 5


def batch_sizes(runner: Runner, spec: Preprocessing, options: BenchmarkOptions, root: Path = Path("/")) -> List[int]:
    """The batch sizes to measure: the requested ones, else the model's own if it is fixed, else 1.

    Raises:
        UsageError: The model does not accept these sizes or the images, or the batches do not fit in memory.
    """
    smallest, largest = runner.batch_range
    sizes = list(options.batches) or [smallest]
    for size in sizes:
        if size < smallest or (largest is not None and size > largest):
            takes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
            raise UsageError(f"{runner.path}: accepts batches of {takes}, not of {size}", "choose another --batch")
    check_shape(runner, np.empty((sizes[0], *spec.input_shape), spec.dtype))
    check_memory(max(sizes), max(options.streams), spec, root)
    return sizes


def round_length(sampler: AnySampler, options: BenchmarkOptions, notes: List[str]) -> Length:
    """The length of a round: as requested, or longer if the power meter needs it, which is added to `notes`."""
    if isinstance(sampler, NoSampler):
        return Length(options.seconds, options.min_runs)
    needed = window_for(sampler.meter, options.seconds)
    if needed > options.seconds:
        notes.append(
            f"rounds last {needed:g} s instead of {options.seconds:g} s: {sampler.meter.name} returns a reading every "
            f"{sampler.meter.period:g} s, and may lag by {sampler.meter.lag:g} s"
        )
    return Length(needed, options.min_runs)


def check_memory(batch: int, streams: int, spec: Preprocessing, root: Path = Path("/")) -> None:
    """Rejects batches that do not fit in free memory.

    Raises:
        UsageError: They do not.
    """
    words = try_text(root / "proc/meminfo").partition("MemAvailable:")[2].split()
    if not words or not words[0].isdigit():
        return
    available = int(words[0]) * 1024
    needed = BATCHES_HELD * batch * int(np.prod(spec.input_shape)) * np.dtype(spec.dtype).itemsize * streams
    if needed > available:
        raise UsageError(
            f"batches of {batch} in {streams} streams need about {needed / 2**30:.1f} GiB, "
            f"{available / 2**30:.1f} GiB are free",
            "choose a smaller --batch or fewer --streams",
        )


# Runnable processes per core, over the last minute, from which on other work affects the times.
BUSY = 0.5


def other_load(before: MachineState) -> List[str]:
    """A note if the machine was busy with other work before the measurement; empty if it was not."""
    cores = available_cores()
    if before.load_average is None or before.load_average <= BUSY * cores:
        return []
    busy = f"{before.load_average:.1f} runnable processes on {cores} cores in the minute before"
    return [f"the machine was busy with other work: {busy}"]


class Benchmark:
    """One benchmark of one model.

    Args:
        open_runner: Opens the model; see `measure.OpenRunner`.
        resolve: Returns the preprocessing of the opened model.
        options: What is measured, and how long.
        sources: Real images; None uses synthetic images.
        image_backend: Library that resizes images.
        runner_options: Further options of `open_runner`, for the record.
        quiet: Show no progress.
        root: Root of the file system.
        clock: Seconds, monotonic.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        open_runner: OpenRunner,
        resolve: Callable[[Runner], Preprocessing],
        options: BenchmarkOptions,
        sources: Optional[Sequence[ImageSource]] = None,
        *,
        image_backend: str = "pillow",
        runner_options: Optional[Mapping[str, Any]] = None,
        quiet: bool = False,
        root: Path = Path("/"),
        clock: Clock = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.open_runner, self.resolve, self.options, self.sources = open_runner, resolve, options, sources
        self.image_backend, self.quiet, self.root = image_backend, quiet, root
        self.runner_options = dict(runner_options or {})
        self.clock, self.sleep = clock, sleep
        self.first_batch = options.batches[0] if options.batches else 1
        self.notes: List[str] = []

    def run(self) -> Dict[str, Any]:
        """Measures everything; the result is the content of the JSON file (docs/benchmark-schema.md).

        Raises:
            UsageError: The model does not accept these batches, or they do not fit in memory.
            BadModelError: The model cannot be opened or run.
            GoogLeNetDeployError: There are no usable images, or a device failed.
        """
        with ExitStack() as stack:
            nvml = open_nvml(stack)
            before = read_state(self.root, nvml)
            self.notes += other_load(before)
            maybe_on_gpu = nvml is not None or find_jetson(self.root) is not None
            empty = read_memory(nvml, on_gpu=maybe_on_gpu, root=self.root)
            runner = stack.enter_context(self.open_runner(1, self.options.threads, self.first_batch))
            spec = self.resolve(runner)
            load = LoadMonitor(self.root, nvml)
            measured = self._measure(runner, spec, nvml, load)
            after = read_state(self.root, nvml)
            memory = self._memory(runner, nvml, empty, measured.pop("loaded"))
            result = {
                "format": FORMAT,
                "tool": f"googlenet-deploy {__version__}",
                "created": datetime.now(timezone.utc).replace(microsecond=0).isoformat(),
                "model": _model(runner),
                "backend": {
                    "name": runner.backend,
                    "device": runner.device,
                    "options": self.runner_options,
                    "notes": list(runner.notes),
                },
                "machine": asdict(describe_machine(self.root, nvml)),
                "options": {**asdict(self.options), "image_backend": self.image_backend},
                "preprocessing": asdict(spec),
                **measured,
                "memory": memory,
                "state": _state(before, load, after),
            }
        # Last, so that trtexec has the GPU to itself.
        result["trtexec"] = self._trtexec(runner, spec, result["configurations"][0]["batch"])
        result["notes"] = self.notes
        return result

    def _measure(self, runner: Runner, spec: Preprocessing, nvml: Optional[Nvml], load: LoadMonitor) -> Dict[str, Any]:
        inputs = self._inputs(spec)
        sizes = batch_sizes(runner, spec, self.options, self.root)
        runner.run(make_batches(inputs, spec, self.image_backend, sizes[0])[0][1])
        loaded = read_memory(nvml, on_gpu=runner.device != "CPU", root=self.root)
        rails = self.options.power_rails
        with open_sampler(self.options.power, runner.device, rails, self.root) as sampler:
            idle = self._idle(sampler)
            with load:
                found = self._configurations(runner, spec, inputs, sizes, sampler)
            copies = isinstance(runner, TimedRun)
            configurations = [part.to_dict(sampler, idle, runner.device, copies_told=copies) for part in found]
        return {
            "images": inputs.to_dict(),
            "idle": idle_dict(idle),
            "configurations": configurations,
            "loaded": loaded,
        }

    def _configurations(
        self, runner: Runner, spec: Preprocessing, inputs: BenchmarkInputs, sizes: Sequence[int], sampler: AnySampler
    ) -> List[Configuration]:
        length, streams = round_length(sampler, self.options, self.notes), self.options.streams
        found: List[Configuration] = []
        with progress("benchmark rounds", len(sizes) * len(streams) * self.options.rounds, quiet=self.quiet) as advance:
            shared = Measurement(
                runner,
                self.open_runner,
                spec,
                self.image_backend,
                sampler,
                length,
                self.options,
                self.clock,
                advance,
            )
            for size in sizes:
                batches = make_batches(inputs, spec, self.image_backend, size)
                with self._fitting(runner, size) as fitting:
                    measurement = replace(shared, runner=fitting)
                    found += [measurement.configuration(batches, count) for count in streams]
        self.notes += [
            f"batch {part.batch}, streams {part.streams}: the latency had not settled "
            f"after {part.warm_up.seconds:.1f} s of warm-up"
            for part in found
            if not part.warm_up.settled
        ]
        return found

    @contextmanager
    def _fitting(self, runner: Runner, size: int) -> Iterator[Runner]:
        """The runner for a batch size: a CPU runs single images differently from batches."""
        if runner.device != "CPU" or (size > 1) == (self.first_batch > 1):
            yield runner
            return
        with self.open_runner(1, self.options.threads, size) as fitting:
            yield fitting

    def _inputs(self, spec: Preprocessing) -> BenchmarkInputs:
        if self.sources is None:
            inputs = synthetic_inputs(self.options.seed, spec)
        else:
            inputs = real_inputs(self.sources, spec, self.image_backend, self.options.image_count)
        frame = self.options.frame or (spec.frame if self.sources is None else None)
        return inputs if frame is None else frame_inputs(inputs, spec, frame, self.image_backend)

    def _idle(self, sampler: AnySampler) -> Measured:
        if isinstance(sampler, NoSampler):
            return sampler.reason
        start = sampler.begin()
        self.sleep(window_for(sampler.meter, self.options.idle_seconds))
        return sampler.energy(start, self.clock())

    def _memory(self, runner: Runner, nvml: Optional[Nvml], empty: Memory, loaded: Memory) -> Dict[str, Any]:
        on_gpu = runner.device != "CPU"
        manifest = getattr(runner, "manifest", None)
        context = manifest.device_memory_bytes if manifest is not None else None
        after = read_memory(nvml, on_gpu=on_gpu, root=self.root)
        return memory_dict(empty, loaded, after, context, on_gpu=on_gpu)

    def _trtexec(self, runner: Runner, spec: Preprocessing, batch: int) -> Dict[str, Any]:
        if not self.options.trtexec:
            return {"not_measured": "it was switched off (--no-trtexec)"}
        why = why_not_trtexec(runner.path, runner.backend)
        if why is not None:
            return not_measured(why)
        fixed = all(size is not None for size in runner.input.shape)
        shape = None if fixed else (batch, *spec.input_shape)
        return run_trtexec(runner.path, shape, runner.input.name, self.options.seconds * self.options.rounds)


def open_nvml(stack: ExitStack) -> Optional[Nvml]:
    """Opens the discrete GPU until the exit stack closes; None without one."""
    try:
        return stack.enter_context(Nvml(cuda_bus_id()))
    except DeviceError:
        return None


def _model(runner: Runner) -> Dict[str, Any]:
    path, manifest = Path(runner.path), getattr(runner, "manifest", None)
    return {
        "path": runner.path,
        "sha256": model_sha256(path),
        "bytes": path.stat().st_size,
        "architecture": runner.metadata.architecture,
        "source_sha256": runner.metadata.source_sha256,
        "precision": manifest.precision if manifest is not None else None,
        "input": runner.input._asdict(),
        "outputs": [output._asdict() for output in runner.outputs],
    }


def _state(before: MachineState, load: LoadMonitor, after: MachineState) -> Dict[str, Any]:
    return {
        "before": before.to_dict(),
        "under_load": load.to_dict(),
        "after": after.to_dict(),
        "throttling": throttling(before, load, after),
    }
