"""Drift: how many activations are outside the ranges that calibration chose, on every N-th image.

INT8 clips values outside their tensor's range. `calibrate` recorded the share that was clipped on the calibration
images; a larger share in operation means that the images differ from those. An ONNX model's inner tensors are read by
running it again, in a separate thread, with them as outputs; of an engine only the input and outputs are visible.
"""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.json_decode import decode
from googlenet_deploy.device.onnx_model.edit import EditableGraph
from googlenet_deploy.device.onnx_model.header import OnnxFile, model_sha256, read_model
from googlenet_deploy.device.onnx_model.messages import parse_model
from googlenet_deploy.device.runner.protocol import fixed_batch
from googlenet_deploy.device.runner.select import runs_engine
from googlenet_deploy.device.serve.metrics import comment, metric
from googlenet_deploy.errors import BadTableError, GoogLeNetDeployError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.serve.batching import Outputs

# The format that `calibration/table.py` writes.
TABLE_FORMAT = "googlenet-deploy calibration table"
TABLE_VERSION = 1
RECENT_IMAGES = 256  # number of images that the shares are computed from
AHEAD = 2  # images that wait to be checked; further ones are left out and counted


class ClippingRange(NamedTuple):
    """The calibration result for one tensor.

    Attributes:
        amax: Largest absolute value that is represented.
        clipped: Share of the values beyond it on the calibration images, from 0 to 1.
    """

    amax: float
    clipped: float


class RangeTable(NamedTuple):
    """The parts of a calibration table that are needed here.

    Attributes:
        ranges: By tensor; tensors of equal values are one entry of `members`.
        members: The names of each such set.
        model_sha256: Hash of the FP32 model that it was made from.
        sha256: Hash of the table's content, as recorded by `quantize`.
    """

    ranges: Dict[str, ClippingRange]
    members: List[Tuple[str, ...]]
    model_sha256: str
    sha256: str


class _Record(NamedTuple):
    """The parts of `quantize`'s record in an INT8 model."""

    fp32: str = ""
    table: str = ""
    method: Optional[str] = None


def read_ranges(path: PathLike, method: Optional[str] = None) -> RangeTable:
    """Reads a table that `calibrate` wrote.

    Args:
        path: The table.
        method: Threshold method; None uses the table's own.

    Raises:
        BadTableError: It cannot be read, is not such a table, or lacks the method.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadTableError(path, f"cannot be read: {reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise BadTableError(path, "is not a calibration table", "pass the .json file that calibrate wrote") from error
    if not isinstance(content, dict) or content.get("format") != TABLE_FORMAT:
        raise BadTableError(path, "is not a calibration table", "pass the .json file that calibrate wrote")
    if content.get("version") != TABLE_VERSION:
        raise BadTableError(path, "is of another format version", "calibrate again with this version")
    try:
        chosen = method or decode(str, content["method"], "method")
        ranges: Dict[str, ClippingRange] = {}
        members = []
        for entry in content["tensors"]:
            names: Tuple[str, ...] = decode(Tuple[str, ...], entry["members"], "members")  # type: ignore[arg-type]
            limits = ClippingRange(
                decode(float, entry["amax"][chosen], "amax"), decode(float, entry["saturated"][chosen], "saturated")
            )
            ranges.update(dict.fromkeys(names, limits))
            members.append(names)
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return RangeTable(ranges, members, decode(str, content["model_sha256"], "model_sha256"), digest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadTableError(path, f"is a damaged calibration table: {error}", "calibrate again") from error


class DriftMonitor:
    """A context manager that checks every N-th image.

    Args:
        runner: The served model.
        table: The table's file.
        model: The ONNX file whose tensors are checked; None uses the served model.
        every: N.
        report: Called with a line if a check fails.

    Attributes:
        notes: What cannot be checked, and why.

    Raises:
        BadTableError: The table is damaged, or was made from another model.
        BadModelError: The ONNX model cannot be run.
        MissingExtraError: ONNX Runtime is not installed.
    """

    def __init__(
        self, runner: Runner, table: str, model: Optional[str], every: int, report: Callable[[str], None]
    ) -> None:
        self.notes: List[str] = []
        self._every, self._report = every, report
        record = _record(runner.metadata.extra)
        watched = model or (None if runs_engine(runner.path, "auto") else runner.path)
        self._table = read_ranges(table, record.method)
        self._check(table, runner, record, watched)
        self._runner, names = self._open(watched, runner)
        if not names:
            raise BadTableError(table, f"names no tensor of {watched or runner.path}", "pass the model's own table")
        self._ranges = {name: self._table.ranges[name] for name in names}
        self._lock = threading.Lock()
        self._queue: queue.Queue[Optional[Tuple[NDArray[np.generic], Outputs]]] = queue.Queue(AHEAD)
        self._thread = threading.Thread(target=self._run, name="drift", daemon=True)
        self._recent: Deque[Dict[str, Tuple[int, int]]] = deque(maxlen=RECENT_IMAGES)
        self._seen = self._looked = self._left_out = 0

    def offer(self, image: NDArray[np.generic], outputs: Outputs) -> None:
        """Queues this image for a check if it is its turn.

        Args:
            image: The prepared image, without a batch dimension.
            outputs: The served model's outputs, one row each.
        """
        with self._lock:
            self._seen += 1
            if (self._seen - 1) % self._every:
                return
        try:
            self._queue.put_nowait((image, outputs))
        except queue.Full:
            with self._lock:
                self._left_out += 1

    def __enter__(self) -> DriftMonitor:
        """Starts the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it."""
        self._queue.put(None)
        self._thread.join()
        if self._runner is not None:
            self._runner.__exit__(None, None, None)

    def lines(self) -> List[str]:
        """For `/metrics`."""
        with self._lock:
            recent, looked, left_out = list(self._recent), self._looked, self._left_out
        found = metric("drift_images_total", "counter", "Images whose activations were compared.", [({}, looked)])
        found += metric("drift_left_out_total", "counter", "Images not compared for lack of time.", [({}, left_out)])
        found += [comment(note) for note in self.notes]
        sums = (
            {name: [sum(image[name][i] for image in recent) for i in (0, 1)] for name in self._ranges} if recent else {}
        )
        total = sum(count for _, count in sums.values())
        if not total:
            return found
        beyond = sum(out for out, _ in sums.values()) / total
        expected = sum(self._ranges[name].clipped * count for name, (_, count) in sums.items()) / total
        found += metric("out_of_range_share", "gauge", "Activations beyond the calibrated range.", [({}, beyond)])
        text = "The same on the calibration's own images."
        found += metric("out_of_range_share_calibration", "gauge", text, [({}, expected)])
        shares = [({"tensor": name}, out / count) for name, (out, count) in sums.items() if count]
        return found + metric("tensor_out_of_range_share", "gauge", "By tensor.", shares)

    def _check(self, path: str, runner: Runner, record: _Record, watched: Optional[str]) -> None:
        """Rejects a table of another model."""
        made_from = self._table.model_sha256
        if watched is not None and watched != runner.path:
            found = model_sha256(watched)
            if record.fp32 and record.fp32 != found:
                raise BadTableError(path, f"{watched} is not the FP32 model that {runner.path} was made from")
        elif record.fp32:
            found = record.fp32
            if record.table and record.table != self._table.sha256:
                raise BadTableError(
                    path,
                    f"is not the table that {runner.path} was quantized with",
                    "pass that one, or compare the FP32 model: --drift-model FP32.onnx with its own table",
                )
        elif watched is not None:
            found = model_sha256(watched)
        else:
            self.notes.append(
                "drift: the engine does not state which model it was made from, so the table is not checked"
            )
            return
        if found != made_from:
            raise BadTableError(path, "was made from another model", "pass the table of the model that is served")

    def _open(self, watched: Optional[str], runner: Runner) -> Tuple[Optional[Runner], List[str]]:
        """Opens the runner of the monitored model, None for an engine; returns it and the visible tensors."""
        known = self._table.ranges
        if watched is None:
            self.notes.append("drift: an engine shows only its input and outputs (--drift-model shows more)")
            names = [runner.input.name, *(value.name for value in runner.outputs)]
            return None, [name for name in names if name in known]
        from googlenet_deploy.device.runner.onnxruntime_runner import OnnxRuntimeRunner  # noqa: PLC0415 - optional

        content, names = with_outputs(read_model(watched), self._table.members)
        opened = OnnxRuntimeRunner(watched, threads=1, as_is=True, model=content)
        return opened, names

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            try:
                found = self._compare(*item)
            except (GoogLeNetDeployError, ValueError) as error:
                if not self._looked:
                    self._report(f"drift cannot be measured: {error}")
                continue
            with self._lock:
                self._looked += 1
                self._recent.append(found)

    def _compare(self, image: NDArray[np.generic], outputs: Outputs) -> Dict[str, Tuple[int, int]]:
        """Values beyond the range, and all values, by tensor."""
        values: Dict[str, Any] = dict(outputs)
        spec = image[np.newaxis]
        if self._runner is not None:
            spec = np.repeat(spec, fixed_batch(self._runner) or 1, axis=0)
            values = dict(self._runner.run(spec))
            values[self._runner.input.name] = spec
        else:
            values.update({name: spec for name in self._ranges if name not in values})
        return {name: beyond(values[name], limits.amax) for name, limits in self._ranges.items()}


def beyond(values: NDArray[np.generic], amax: float) -> Tuple[int, int]:
    """How many values are larger than `amax` in magnitude, and how many there are; NaN counts as beyond."""
    magnitudes = np.abs(np.asarray(values, np.float32))
    return int(magnitudes.size - np.count_nonzero(magnitudes <= np.float32(amax))), int(magnitudes.size)


def with_outputs(file: OnnxFile, members: List[Tuple[str, ...]]) -> Tuple[OnnxFile, List[str]]:
    """Returns the model with one tensor of each set as an additional output, and the names of all visible tensors.

    Args:
        file: The model.
        members: Names of tensors that share their values; the first that the model computes is used.
    """
    graph = EditableGraph(file.model)
    produced, inputs = graph.producers(), [value.name for value in file.header.inputs]
    found = []
    for names in members:
        name = next((name for name in names if name in produced or name in inputs), None)
        if name is None:
            continue
        found.append(name)
        if name not in graph.outputs and name not in inputs:
            graph.add_output(name)
    content = graph.serialize()
    return OnnxFile(file.path, content, parse_model(content), external=False), found


def _record(extra: Mapping[str, str]) -> _Record:
    try:
        values = json.loads(extra.get("quantization", "{}"))
        return _Record(str(values["fp32_sha256"]), str(values["table_sha256"]), str(values["method"]))
    except (ValueError, RecursionError, TypeError, KeyError):
        return _Record()
