"""The text files of a DeepStream bundle: nvinfer's and nvdspreprocess's configurations, and the instructions."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from googlenet_deploy import __version__
from googlenet_deploy.device.options import check_options, option
from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.device.targets.target import Target, last_with_caches

MODEL, LABELS, CACHE = "model.onnx", "labels.txt", "int8.cache"
# As in nvdsinfer_context.h; 3 is INT8 with FP16 for the layers that have no scale or are faster in FP16.
_NETWORK_MODES = {"fp32": 0, "int8": 3, "fp16": 2}
_MODE_NAMES = {0: "fp32", 2: "fp16", 3: "best"}
STRONGLY_TYPED_SINCE = (9, 1)  # of DeepStream
# DeepStream 9.1's TensorRT (see its README); targets with an older version cannot run it.
_TENSORRT_OF_9_1 = (10, 16)
_COLOURS = {"RGB": 0, "BGR": 1, "L": 2}
_CUSTOM_LIBRARY = "/opt/nvidia/deepstream/deepstream/lib/gst-plugins/libcustom2d_preprocess.so"
DEEPSTREAM = "for DeepStream"  # a heading of --help


def parse_frame(text: str) -> tuple[int, int]:
    """Parses ``1920x1080``, for argparse."""
    width, separator, height = text.lower().partition("x")
    if not (separator and width.isdecimal() and height.isdecimal() and min(int(width), int(height)) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT")
    return int(width), int(height)


def parse_version(text: str) -> tuple[int, int]:
    """Parses ``9.1``, for argparse."""
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is not a version such as 9.1")
    return int(major), int(minor)


@dataclass(frozen=True)
class Detector:
    """The detector before a secondary classifier.

    Attributes:
        gie_id: Its ``gie-unique-id``.
        class_ids: The detector's classes whose objects are classified; empty for all.
    """

    gie_id: int
    class_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class DeepStreamRequest:
    """The inputs of a DeepStream bundle.

    Attributes:
        target: The module, JetPack or TensorRT.
        precision: "fp32", "fp16" or "int8".
        models: ONNX files by precision.
        table: Calibration table of the FP32 model; INT8 needs it before DeepStream 9.1.
        batch: Frames per batch; for a secondary classifier, objects per batch.
        frame: (width, height) of the frames, as output by nvstreammux.
        threshold: Smallest probability that is reported, 0..1.
        detector: The detector whose objects are classified; None to classify whole frames.
        version: (major, minor) of DeepStream; None for the one that matches the target's oldest TensorRT.
    """

    target: Target
    precision: str
    models: dict[str, Path]
    table: Path | None = None
    batch: int = option(1, "frames or objects per batch", group=DEEPSTREAM, flag="--streams", metavar="N", least=1)
    frame: tuple[int, int] = option(
        (1920, 1080), "size of the frames", group=DEEPSTREAM, metavar="WxH", parse=parse_frame,
        shown_default="1920x1080",
    )  # fmt: skip
    threshold: float = option(0.2, "least probability", group=DEEPSTREAM, metavar="P", least=0, most=1)
    detector: Detector | None = None
    version: tuple[int, int] | None = option(
        None, "its version; 9.1 and later accept Q/DQ and FP16 models", group=DEEPSTREAM, flag="--deepstream",
        metavar="X.Y", parse=parse_version, shown_default="by the target's TensorRT",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def strongly_typed(self) -> bool:
        """Whether nvinfer uses the types in the model: a Q/DQ or FP16 model, in DeepStream 9.1 or later."""
        return self.reads_types and self.precision in ("int8", "fp16") and self.precision in self.models

    @property
    def reads_types(self) -> bool:
        """Whether the target's DeepStream has ``strongly-typed``."""
        if self.version is not None:
            return self.version >= STRONGLY_TYPED_SINCE
        return bool(self.target.tensorrt) and self.target.tensorrt[0] >= _TENSORRT_OF_9_1

    @property
    def source(self) -> str:
        """The precision of the model that nvinfer builds from."""
        return self.precision if self.strongly_typed else "fp32"

    @property
    def network_mode(self) -> int:
        """``network-mode``: a strongly typed network uses no flags, which corresponds to 0."""
        return 0 if self.strongly_typed else _NETWORK_MODES[self.precision]

    @property
    def config(self) -> str:
        """The name of Gst-nvinfer's configuration file."""
        return "config_infer_primary.txt" if self.detector is None else "config_infer_secondary.txt"


@dataclass(frozen=True)
class InferValues:
    """The values of the configuration files.

    Attributes:
        factor: ``net-scale-factor``.
        offsets: ``offsets``, in the network's channel order.
        factors: The remaining factor per channel, applied in the graph.
        spec: The model's own preprocessing.
        input: Name of the input.
        output: Name of the output of probabilities.
        request: The bundle's request.
        class_count: Number of classes.
    """

    factor: float
    offsets: tuple[float, ...]
    factors: tuple[float, ...]
    spec: Preprocessing
    input: str
    output: str
    request: DeepStreamRequest
    class_count: int


def infer_config(values: InferValues) -> str:
    """``config_infer_primary.txt`` or ``config_infer_secondary.txt``."""
    request, spec = values.request, values.spec
    height, width = spec.crop
    engine = f"{MODEL}_b{request.batch}_gpu0_{_MODE_NAMES[request.network_mode]}.engine"
    lines = [
        f"# Gst-nvinfer for {_title(request)}.",
        f"# Made by googlenet-deploy {__version__}.",
        "# Paths are relative to this file. README.txt lists what differs from the training's preparation of images.",
        "",
        "[property]",
        "gpu-id=0",
        f"onnx-file={MODEL}",
        f"model-engine-file={engine}",
        f"labelfile-path={LABELS}",
        *_precision(request),
        f"batch-size={request.batch}",
        *_process_mode(request),
        "# A classifier with one output of probabilities",
        "network-type=1",
        f"num-detected-classes={values.class_count}",
        f"output-blob-names={values.output}",
        f"classifier-threshold={request.threshold:g}",
        "classifier-async-mode=0",
        "interval=0",
        "# What nvinfer computes: net-scale-factor * (pixel - offset), per channel of model-color-format",
        f"net-scale-factor={_number(values.factor)}",
        f"offsets={_list(values.offsets)}",
        "# 0 RGB, 1 BGR, 2 GRAY",
        f"model-color-format={_COLOURS[spec.channels]}",
        f"infer-dims={len(spec.channels)};{height};{width}",
        "network-input-order=0",
        f"# {_whole_frame(spec)}",
        *_aspect(spec),
        f"scaling-filter={_filter(spec)}",
        "input-tensor-from-meta=0",
    ]
    return "\n".join(lines) + "\n"


def _precision(request: DeepStreamRequest) -> list[str]:
    if request.strongly_typed:
        return [
            f"# {request.precision.upper()} is in the model; 0 sets no flags, which would contradict its types",
            "strongly-typed=1",
            "network-mode=0",
        ]
    cache = [f"int8-calib-file={CACHE}"] if request.precision == "int8" else []
    return [*cache, "# 0 FP32, 1 INT8, 2 FP16, 3 INT8 with FP16 for the rest", f"network-mode={request.network_mode}"]


def _process_mode(request: DeepStreamRequest) -> list[str]:
    detector = request.detector
    if detector is None:
        return ["# Whole frames (2: objects that a detector found)", "process-mode=1", "gie-unique-id=1"]
    own = 2 if detector.gie_id != 2 else 3
    classes = [f"operate-on-class-ids={';'.join(map(str, detector.class_ids))}"] if detector.class_ids else []
    return [
        "# Objects that a detector found (1: whole frames)",
        "process-mode=2",
        f"gie-unique-id={own}",
        "# gie-unique-id of the detector, and its classes whose objects are classified (without the line: all)",
        f"operate-on-gie-id={detector.gie_id}",
        *classes,
    ]


def preprocess_config(values: InferValues) -> str:
    """``config_preprocess.txt``: the centre crop as a region of interest."""
    request, spec = values.request, values.spec
    height, width = spec.crop
    shape = ";".join(map(str, (request.batch, len(spec.channels), height, width)))
    lines = [
        "# Gst-nvdspreprocess: cuts the region out of the middle that the network was trained on, and scales that.",
        f"# Made for frames of {request.frame[0]} x {request.frame[1]}; README.txt has the formula for others.",
        "",
        "[property]",
        "enable=1",
        "unique-id=5",
        "target-unique-ids=1",
        "gpu-id=0",
        "process-on-frame=1",
        "# NCHW",
        "network-input-order=0",
        f"network-input-shape={shape}",
        f"network-color-format={_COLOURS[spec.channels]}",
        "# FP32",
        "tensor-data-type=0",
        f"tensor-name={values.input}",
        f"processing-width={width}",
        f"processing-height={height}",
        *_aspect(spec),
        f"scaling-filter={_filter(spec)}",
        "scaling-pool-memory-type=0",
        "scaling-pool-compute-hw=0",
        "scaling-buf-pool-size=6",
        "tensor-buf-pool-size=6",
        f"custom-lib-path={_CUSTOM_LIBRARY}",
        "custom-tensor-preparation-function=CustomTensorPreparation",
        "",
        "[user-configs]",
        f"pixel-normalization-factor={_number(values.factor)}",
        f"offsets={_list(values.offsets)}",
        "",
        "[group-0]",
        "src-ids=0",
        "custom-input-transformation-function=CustomAsyncTransformation",
        "process-on-roi=1",
        "# left;top;width;height",
        f"roi-params-src-0={';'.join(map(str, region(spec, request.frame)))}",
    ]
    return "\n".join(lines) + "\n"


def region(spec: Preprocessing, frame: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of the centre crop in a frame, in the frame's own pixels.

    A crop of c pixels covers ``c / resize`` of the resized side: of the short side, or of each side if the frame is
    stretched. A letterbox keeps the whole frame.
    """
    width, height = frame
    if spec.resize_mode == "letterbox":
        return 0, 0, width, height
    if spec.resize_mode == "stretch":
        x, y = width / spec.target[1], height / spec.target[0]
    else:
        x = y = min(width, height) / spec.short_side if spec.short_side else 1.0
    wide = min(width, round(spec.crop[1] * x))
    high = min(height, round(spec.crop[0] * y))
    return (width - wide) // 2, (height - high) // 2, wide, high


def readme(values: InferValues) -> str:
    """``README.txt``."""
    request = values.request
    lines = [
        f"An image classifier for DeepStream on {_title(request)}, {values.class_count} classes",
        f"Made by googlenet-deploy {__version__}.",
        "",
        "Run (the first start builds the engine, which takes minutes)",
        "",
        *_pipeline(values),
        "",
        "What differs from the preparation of images in training and in `evaluate`",
        "",
        *_differences(values),
        "",
        *(_region_lines(values) if request.detector is None else []),
        "Files",
        "",
        *(f"    {name:26} {text}" for name, text in _files(request)),
        "",
        "sha256sum --check SHA256SUMS finds a file that was damaged. Hashes prove no origin: whoever changes a file",
        "can rewrite them.",
    ]
    return "\n".join(lines) + "\n"


def _pipeline(values: InferValues) -> list[str]:
    """The command line, and where to find the results."""
    request = values.request
    size = f"width={request.frame[0]} height={request.frame[1]}"
    source = "    gst-launch-1.0 filesrc location=video.mp4 ! qtdemux ! h264parse ! nvv4l2decoder ! mux.sink_0 \\"
    show = "nvvideoconvert ! nvdsosd ! fakesink"
    if request.detector is not None:
        return [
            source,
            f"        nvstreammux name=mux batch-size=1 {size} ! \\",
            "        nvinfer config-file-path=DETECTOR.txt ! \\",
            "        nvtracker ll-lib-file=/opt/nvidia/deepstream/deepstream/lib/libnvds_nvmultiobjecttracker.so ! \\",
            f"        nvinfer config-file-path={request.config} ! {show}",
            "",
            f"DETECTOR.txt is the configuration of your detector, with gie-unique-id={request.detector.gie_id}.",
            "The class of an object is in its NvDsObjectMeta, classifier_meta_list.",
        ]
    lines = [
        source,
        f"        nvstreammux name=mux batch-size={request.batch} {size} ! \\",
        f"        nvinfer config-file-path={request.config} ! {show}",
        "",
        "The class of a frame is in the classifier_meta_list of an NvDsObjectMeta that covers the frame.",
    ]
    return lines if takes_whole_frame(values.spec) else [*lines, "", *_CROPPED]


def _region_lines(values: InferValues) -> list[str]:
    request, spec = values.request, values.spec
    left, top, wide, high = region(spec, request.frame)
    return [
        "The region of interest for frames of W x H pixels: left, top, width, height =",
        f"    {_region_formula(spec)}",
        "    left = (W - width) / 2; top = (H - height) / 2",
        f"For {request.frame[0]} x {request.frame[1]}: {left};{top};{wide};{high}",
        "",
    ]


def _files(request: DeepStreamRequest) -> list[tuple[str, str]]:
    what = "INT8 (Q/DQ)" if request.source == "int8" else request.source.upper()
    made = "" if request.source == request.precision else f"; TensorRT makes {request.precision.upper()} of it"
    rows = [(MODEL, f"{what} ONNX with softmax{made}")]
    if request.precision == "int8" and not request.strongly_typed:
        rows.append((CACHE, f"INT8 calibration cache for TensorRT {_cache_version(request.target)}"))
    rows += [(LABELS, "class names, separated by semicolons"), (request.config, "Gst-nvinfer")]
    if request.detector is None:
        rows.append(("config_preprocess.txt", "Gst-nvdspreprocess"))
    return [*rows, ("manifest.json, SHA256SUMS", "hashes")]


def _differences(values: InferValues) -> list[str]:
    spec, request = values.spec, values.request
    lines = _differences_of_geometry(spec, "object" if request.detector else "frame")
    if any(factor != 1.0 for factor in values.factors):
        lines += [
            f"- Standard deviation: nvinfer has one scale for all channels, this network has {_list(spec.std)}.",
            "  net-scale-factor is that of the first channel; the rest is a multiplication per channel in the graph",
            f"  (node scale_input: {_list(values.factors)}), verified against the model it was made from.",
        ]
    if request.precision == "int8" and not request.strongly_typed:
        lines += [
            "- INT8: nvinfer builds it from the calibration cache, not from a Q/DQ model. Scales are the table's, but",
            "  TensorRT rounds the weights itself, so it is not bit for bit the INT8 model that `evaluate` measured.",
            "  Layers without a scale run in FP16 (network-mode=3). DeepStream 9.1 or later accepts the Q/DQ model.",
        ]
    return lines


def takes_whole_frame(spec: Preprocessing) -> bool:
    """Whether nvinfer alone prepares frames as in training: the whole frame, stretched or letterboxed."""
    return spec.resize_mode != "short-side" and spec.target == spec.crop


def _differences_of_geometry(spec: Preprocessing, what: str) -> list[str]:
    height, width = spec.crop
    lines = []
    if not takes_whole_frame(spec):
        lines += [
            f"- Region: nvinfer scales the whole {what} to {height} x {width}, whatever its shape. In training:",
            f"  {spec.describe_geometry()}.",
            "  It looks squeezed, and the borders that training cut off are seen.",
            *(["  Use config_preprocess.txt."] if what == "frame" else []),
        ]
    if any(spec.fill):
        lines += [f"- Bars: nvinfer's are black, those of training have the value {', '.join(map(str, spec.fill))}."]
    if spec.antialias and spec.interpolation != "nearest":
        lines += [
            "- Filter: nvinfer's bilinear scaling is not antialiased, training's is: large frames come out noisier."
        ]
    elif spec.interpolation not in ("nearest", "bilinear"):
        lines += [f"- Filter: nvinfer scales bilinearly, training scales by {spec.interpolation}."]
    return lines or ["- Nothing: nvinfer scales frames as in training."]


_CROPPED = [
    "The same region of the frame as in training (see below), with input-tensor-from-meta=1 in",
    "config_infer_primary.txt:",
    "",
    "        ... ! nvdspreprocess config-file=config_preprocess.txt ! \\",
    "        nvinfer config-file-path=config_infer_primary.txt ! ...",
    "",
    "With input-tensor-from-meta=1 the results hang on the region, not on an object, and nvdsosd shows none: read",
    "roi_vector of GstNvDsPreProcessBatchMeta, each NvDsRoiMeta has a classifier_meta_list.",
]


def _aspect(spec: Preprocessing) -> list[str]:
    """Nvinfer's letterbox is centred with ``symmetric-padding``; its bars are black."""
    if spec.resize_mode == "letterbox":
        return ["maintain-aspect-ratio=1", "symmetric-padding=1"]
    return ["maintain-aspect-ratio=0"]


def _filter(spec: Preprocessing) -> int:
    """``scaling-filter`` (NvBufSurfTransform_Inter): 0 nearest, 1 bilinear."""
    return 0 if spec.interpolation == "nearest" else 1


def _whole_frame(spec: Preprocessing) -> str:
    if takes_whole_frame(spec):
        return "The whole frame is scaled to infer-dims, as in training"
    return "The whole frame is scaled to infer-dims; with config_preprocess.txt set input-tensor-from-meta=1 instead"


def _region_formula(spec: Preprocessing) -> str:
    height, width = spec.crop
    if spec.resize_mode == "letterbox":
        return "width = W; height = H;"
    if spec.resize_mode == "stretch":
        return f"width = {width} W / {spec.target[1]}; height = {height} H / {spec.target[0]};"
    return f"s = min(W, H) / {spec.short_side or 'min(W, H)'}; width = {width} s; height = {height} s;"


def _title(request: DeepStreamRequest) -> str:
    return f"{request.target.title}, {request.precision.upper()}"


def _cache_version(target: Target) -> str:
    version = last_with_caches(target)
    return f"{version[0]}.{version[1]}" if version else ""


def _list(values: tuple[float, ...]) -> str:
    return ";".join(_number(value) for value in values)


def _number(value: float) -> str:
    return f"{value:.10g}"
