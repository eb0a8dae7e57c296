"""The classifiers used in published measurements, as ONNX graphs with their layers' shapes and without weights.

Each function follows its network's published definition (torchvision 0.20, TF-slim and Caffe, as named); weights are
zeros generated when the graph runs, so that a network takes only kilobytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx import ModelProto, TensorProto, helper

CLASSES = 1000


class NetworkBuilder:
    """Writes a classifier layer by layer; every method returns the name of its output tensor.

    Args:
        size: Height and width of the image.
    """

    def __init__(self, size: int = 224) -> None:
        self.size = size
        self.nodes: list[object] = []
        self.constants: list[TensorProto] = []
        self.channels: dict[str, int] = {"image": 3}

    def _node(self, operator: str, inputs: Sequence[str], channels: int, **attributes: object) -> str:
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name, **attributes))
        self.channels[name] = channels
        return name

    def _zeros(self, *shape: int) -> str:
        name = f"shape_{len(self.constants)}"
        self.constants.append(helper.make_tensor(name, TensorProto.INT64, [len(shape)], shape))
        return self._node("ConstantOfShape", [name], 0)

    def conv(
        self,
        data: str,
        channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        pad: int | None = None,
        groups: int = 1,
        *,
        relu: bool = True,
    ) -> str:
        """A convolution with bias, as after folding BatchNorm, and its ReLU; padded to "same" by default."""
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        vertical, horizontal = (height // 2, width // 2) if pad is None else (pad, pad)
        weight = self._zeros(channels, self.channels[data] // groups, height, width)
        found = self._node(
            "Conv", [data, weight, self._zeros(channels)], channels, kernel_shape=[height, width],
            strides=[stride, stride], pads=[vertical, horizontal] * 2, group=groups,
        )  # fmt: skip
        return self._node("Relu", [found], channels) if relu else found

    def pool(self, data: str, kernel: int, stride: int, pad: int = 0, *, ceil: bool = False, mean: bool = False) -> str:
        """A max or average pool."""
        return self._node(
            "AveragePool" if mean else "MaxPool", [data], self.channels[data], kernel_shape=[kernel, kernel],
            strides=[stride, stride], pads=[pad] * 4, ceil_mode=int(ceil),
        )  # fmt: skip

    def concat(self, *branches: str) -> str:
        """Concatenation along the channels."""
        return self._node("Concat", branches, sum(self.channels[name] for name in branches), axis=1)

    def add(self, left: str, right: str, *, relu: bool = True) -> str:
        """A residual sum and its ReLU."""
        total = self._node("Add", [left, right], self.channels[left])
        return self._node("Relu", [total], self.channels[left]) if relu else total

    def pointwise(self, data: str) -> str:
        """A BatchNorm and ReLU before a convolution, which TensorRT computes in a separate kernel."""
        channels = self.channels[data]
        statistics = [self._zeros(channels) for _ in range(4)]
        return self._node("Relu", [self._node("BatchNormalization", [data, *statistics], channels)], channels)

    def lrn(self, data: str) -> str:
        """Local response normalisation over five channels."""
        return self._node("LRN", [data], self.channels[data], size=5, alpha=1e-4)

    def dense(self, data: str, channels: int, features: int | None = None, *, relu: bool = False) -> str:
        """A fully connected layer; `features` is needed if the input is not a single pixel."""
        depth = features or self.channels[data]
        flat = self._node("Flatten", [data], depth)
        found = self._node("Gemm", [flat, self._zeros(channels, depth), self._zeros(channels)], channels, transB=1)
        return self._node("Relu", [found], channels) if relu else found

    def classify(self, data: str, classes: int = CLASSES) -> ModelProto:
        """The global average pool, the classifier, and the model."""
        return self.finish(self.dense(self._node("GlobalAveragePool", [data], self.channels[data]), classes))

    def finish(self, data: str, *, softmax: bool = True) -> ModelProto:
        """Finishes the graph and returns the model."""
        last = self._node("Softmax", [data], self.channels[data]) if softmax else data
        graph = helper.make_graph(
            self.nodes, "network",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, self.size, self.size])],
            [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
            self.constants,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


# Branch widths of Szegedy et al. 2014, Table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection.
INCEPTION_V1 = {
    "3": [(64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)],
    "4": [
        (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128),
    ],
    "5": [(256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)],
}  # fmt: skip


def googlenet(size: int = 224, *, caffe: bool = True) -> ModelProto:
    """BVLC's GoogLeNet (Caffe's: LRN, 5x5, ceil), or TF-slim's Inception v1 (BatchNorm, 3x3 for 5x5, "same")."""
    net = NetworkBuilder(size)
    pooled = (lambda data: net.pool(data, 3, 2, ceil=True)) if caffe else (lambda data: net.pool(data, 3, 2, 1))
    data = pooled(net.conv("image", 64, 7, 2))
    data = net.conv(net.conv(net.lrn(data) if caffe else data, 64, 1), 192, 3)
    data = pooled(net.lrn(data) if caffe else data)
    for stage, blocks in INCEPTION_V1.items():
        if stage != "3":
            data = pooled(data)
        for one, reduce3, three, reduce5, five, projection in blocks:
            data = net.concat(
                net.conv(data, one, 1),
                net.conv(net.conv(data, reduce3, 1), three, 3),
                net.conv(net.conv(data, reduce5, 1), five, 5 if caffe else 3),
                net.conv(net.pool(data, 3, 1, 1), projection, 1),
            )
    return net.classify(data)


def alexnet(*, caffe: bool = False) -> ModelProto:
    """Torchvision's AlexNet, or Caffe's with LRN, groups and a crop of 227."""
    net = NetworkBuilder(227 if caffe else 224)
    widths, groups = ((96, 256, 384, 384, 256), 2) if caffe else ((64, 192, 384, 256, 256), 1)
    data = net.conv("image", widths[0], 11, 4, 0 if caffe else 2)
    data = net.pool(net.lrn(data) if caffe else data, 3, 2)
    data = net.conv(data, widths[1], 5, groups=groups)
    data = net.pool(net.lrn(data) if caffe else data, 3, 2)
    data = net.conv(data, widths[2], 3)
    data = net.conv(net.conv(data, widths[3], 3, groups=groups), widths[4], 3, groups=groups)
    data = net.dense(net.pool(data, 3, 2), 4096, 256 * 36, relu=True)
    return net.finish(net.dense(net.dense(data, 4096, relu=True), CLASSES))


def squeezenet(version: str) -> ModelProto:
    """SqueezeNet 1.0 or 1.1 (torchvision's and Caffe's, which pool in ceil mode)."""
    old = version == "1.0"
    net = NetworkBuilder()
    data = net.conv("image", 96 if old else 64, 7 if old else 3, 2, 0)
    data = net.pool(data, 3, 2, ceil=True)
    fires = [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]
    for index, (squeeze, expand) in enumerate(fires):
        if index in ((3, 7) if old else (2, 4)):
            data = net.pool(data, 3, 2, ceil=True)
        data = net.conv(data, squeeze, 1)
        data = net.concat(net.conv(data, expand, 1), net.conv(data, expand, 3))
    data = net.conv(data, CLASSES, 1)
    return net.finish(net._node("GlobalAveragePool", [data], CLASSES))


def resnet(depth: int, size: int = 224, *, caffe: bool = False, slim: bool = False) -> ModelProto:
    """A ResNet of torchvision (stride in a stage's first 3x3), Caffe (first 1x1), or v1 of TF-slim (last 3x3)."""
    counts = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth]
    net = NetworkBuilder(size)
    data = net.pool(net.conv("image", 64, 7, 2), 3, 2, 1)
    for stage, blocks in enumerate(counts):
        width = 64 * 2**stage
        for index in range(blocks):
            stride = 2 if slim and stage < 3 and index == blocks - 1 else 1
            if not slim:
                stride = 2 if stage and not index else 1
            data = _residual(net, data, width, stride, bottleneck=depth >= 50, early=caffe)
    return net.classify(data)


def _residual(net: NetworkBuilder, data: str, width: int, stride: int, *, bottleneck: bool, early: bool) -> str:
    wide = 4 * width if bottleneck else width
    if bottleneck:
        inner = net.conv(data, width, 1, stride if early else 1)
        inner = net.conv(net.conv(inner, width, 3, 1 if early else stride), wide, 1, relu=False)
    else:
        inner = net.conv(net.conv(data, width, 3, stride), wide, 3, relu=False)
    if net.channels[data] != wide:
        data = net.conv(data, wide, 1, stride, relu=False)
    elif stride != 1:
        data = net.pool(data, 1, stride)
    return net.add(inner, data)


def vgg(depth: int) -> ModelProto:
    """A VGG network; BatchNorm changes nothing in an engine."""
    counts = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}[depth]
    net = NetworkBuilder()
    data = "image"
    for count, width in zip(counts, (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            data = net.conv(data, width, 3)
        data = net.pool(data, 2, 2)
    data = net.dense(data, 4096, 512 * 49, relu=True)
    return net.finish(net.dense(net.dense(data, 4096, relu=True), CLASSES))


def densenet(depth: int) -> ModelProto:
    """A DenseNet of torchvision: BatchNorm and ReLU precede the convolutions, so they cannot be fused."""
    growth, start, counts = {
        121: (32, 64, (6, 12, 24, 16)), 169: (32, 64, (6, 12, 32, 32)), 201: (32, 64, (6, 12, 48, 32)),
        161: (48, 96, (6, 12, 36, 24)),
    }[depth]  # fmt: skip
    net = NetworkBuilder()
    data = net.pool(net.conv("image", start, 7, 2), 3, 2, 1)
    for stage, blocks in enumerate(counts):
        for _ in range(blocks):
            inner = net.conv(net.pointwise(data), 4 * growth, 1)
            data = net.concat(data, net.conv(inner, growth, 3, relu=False))
        if stage < len(counts) - 1:
            data = net.conv(net.pointwise(data), net.channels[data] // 2, 1, relu=False)
            data = net.pool(data, 2, 2, mean=True)
    return net.classify(net.pointwise(data))


def mobilenet_v1(width: float = 1.0, size: int = 224) -> ModelProto:
    """MobileNet v1 of TF-slim."""
    net = NetworkBuilder(size)
    data = net.conv("image", int(32 * width), 3, 2)
    for channels, stride in [
        (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1),
    ]:  # fmt: skip
        data = net.conv(data, net.channels[data], 3, stride, groups=net.channels[data])
        data = net.conv(data, int(channels * width), 1)
    return net.classify(data)


def _inverted(net: NetworkBuilder, data: str, expansion: int, channels: int, stride: int, kernel: int) -> str:
    inner = net.conv(data, expansion * net.channels[data], 1) if expansion > 1 else data
    inner = net.conv(inner, net.channels[inner], kernel, stride, groups=net.channels[inner])
    inner = net.conv(inner, channels, 1, relu=False)
    return net.add(inner, data, relu=False) if stride == 1 and net.channels[data] == channels else inner


def mobilenet_v2() -> ModelProto:
    """MobileNet v2 of torchvision and the ONNX zoo."""
    net = NetworkBuilder()
    data = net.conv("image", 32, 3, 2)
    for expansion, channels, count, stride in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ]:  # fmt: skip
        for index in range(count):
            data = _inverted(net, data, expansion, channels, 1 if index else stride, 3)
    return net.classify(net.conv(data, 1280, 1))


def mnasnet(width: float) -> ModelProto:
    """MNASNet of torchvision (B1), whose widths are rounded to multiples of eight."""

    def scaled(channels: int) -> int:
        rounded = max(8, int(channels * width + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * channels * width else rounded

    net = NetworkBuilder()
    data = net.conv("image", scaled(32), 3, 2)
    data = net.conv(data, net.channels[data], 3, groups=net.channels[data])
    data = net.conv(data, scaled(16), 1, relu=False)
    for expansion, channels, count, stride, kernel in [
        (3, 24, 3, 2, 3), (3, 40, 3, 2, 5), (6, 80, 3, 2, 5), (6, 96, 2, 1, 3), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
    ]:  # fmt: skip
        for index in range(count):
            data = _inverted(net, data, expansion, scaled(channels), 1 if index else stride, kernel)
    return net.classify(net.conv(data, 1280, 1))


def inception_v3() -> ModelProto:
    """Inception v3 of TF-slim and torchvision, at 299 pixels."""
    net = NetworkBuilder(299)
    data = net.conv(net.conv(net.conv("image", 32, 3, 2, 0), 32, 3, 1, 0), 64, 3)
    data = net.conv(net.conv(net.pool(data, 3, 2), 80, 1), 192, 3, 1, 0)
    data = net.pool(data, 3, 2)
    for projection in (32, 64, 64):
        data = net.concat(
            net.conv(data, 64, 1),
            net.conv(net.conv(data, 48, 1), 64, 5),
            net.conv(net.conv(net.conv(data, 64, 1), 96, 3), 96, 3),
            net.conv(net.pool(data, 3, 1, 1, mean=True), projection, 1),
        )
    data = net.concat(
        net.conv(data, 384, 3, 2, 0),
        net.conv(net.conv(net.conv(data, 64, 1), 96, 3), 96, 3, 2, 0),
        net.pool(data, 3, 2),
    )
    for width in (128, 160, 160, 192):
        data = _factorised(net, data, width, 192)
    left = net.conv(net.conv(data, 192, 1), 320, 3, 2, 0)
    right = net.conv(net.conv(net.conv(net.conv(data, 192, 1), 192, (1, 7)), 192, (7, 1)), 192, 3, 2, 0)
    data = net.concat(left, right, net.pool(data, 3, 2))
    for _ in range(2):
        three, double = net.conv(data, 384, 1), net.conv(net.conv(data, 448, 1), 384, 3)
        data = net.concat(
            net.conv(data, 320, 1),
            net.concat(net.conv(three, 384, (1, 3)), net.conv(three, 384, (3, 1))),
            net.concat(net.conv(double, 384, (1, 3)), net.conv(double, 384, (3, 1))),
            net.conv(net.pool(data, 3, 1, 1, mean=True), 192, 1),
        )
    return net.classify(data)


def _factorised(net: NetworkBuilder, data: str, width: int, out: int) -> str:
    """Inception v3's block of 1x7 and 7x1."""
    double = net.conv(net.conv(net.conv(data, width, 1), width, (7, 1)), width, (1, 7))
    return net.concat(
        net.conv(data, out, 1),
        net.conv(net.conv(net.conv(data, width, 1), width, (1, 7)), out, (7, 1)),
        net.conv(net.conv(double, width, (7, 1)), out, (1, 7)),
        net.conv(net.pool(data, 3, 1, 1, mean=True), out, 1),
    )


def inception_v4() -> ModelProto:
    """Inception v4 of TF-slim (Szegedy et al. 2016, figures 3 to 9), at 299 pixels."""
    net = NetworkBuilder(299)
    data = net.conv(net.conv(net.conv("image", 32, 3, 2, 0), 32, 3, 1, 0), 64, 3)
    data = net.concat(net.pool(data, 3, 2), net.conv(data, 96, 3, 2, 0))
    long = net.conv(net.conv(net.conv(data, 64, 1), 64, (1, 7)), 64, (7, 1))
    data = net.concat(net.conv(net.conv(data, 64, 1), 96, 3, 1, 0), net.conv(long, 96, 3, 1, 0))
    data = net.concat(net.conv(data, 192, 3, 2, 0), net.pool(data, 3, 2))
    for _ in range(4):
        data = net.concat(
            net.conv(data, 96, 1),
            net.conv(net.conv(data, 64, 1), 96, 3),
            net.conv(net.conv(net.conv(data, 64, 1), 96, 3), 96, 3),
            net.conv(net.pool(data, 3, 1, 1, mean=True), 96, 1),
        )
    inner = net.conv(net.conv(net.conv(data, 192, 1), 224, 3), 256, 3, 2, 0)
    data = net.concat(net.conv(data, 384, 3, 2, 0), inner, net.pool(data, 3, 2))
    for _ in range(7):
        double = net.conv(net.conv(net.conv(data, 192, 1), 192, (7, 1)), 224, (1, 7))
        data = net.concat(
            net.conv(data, 384, 1),
            net.conv(net.conv(net.conv(data, 192, 1), 224, (1, 7)), 256, (7, 1)),
            net.conv(net.conv(double, 224, (7, 1)), 256, (1, 7)),
            net.conv(net.pool(data, 3, 1, 1, mean=True), 128, 1),
        )
    left = net.conv(net.conv(data, 192, 1), 192, 3, 2, 0)
    right = net.conv(net.conv(net.conv(net.conv(data, 256, 1), 256, (1, 7)), 320, (7, 1)), 320, 3, 2, 0)
    data = net.concat(left, right, net.pool(data, 3, 2))
    for _ in range(3):
        three = net.conv(data, 384, 1)
        double = net.conv(net.conv(net.conv(data, 384, 1), 448, (3, 1)), 512, (1, 3))
        data = net.concat(
            net.conv(data, 256, 1),
            net.concat(net.conv(three, 256, (1, 3)), net.conv(three, 256, (3, 1))),
            net.concat(net.conv(double, 256, (1, 3)), net.conv(double, 256, (3, 1))),
            net.conv(net.pool(data, 3, 1, 1, mean=True), 256, 1),
        )
    return net.classify(data, 1001)


# By their names in the table of measurements.
NETWORKS: dict[str, Callable[[], ModelProto]] = {
    "googlenet-bvlc": googlenet,
    "inception-v1-slim": lambda: googlenet(caffe=False),
    "inception-v3": inception_v3,
    "inception-v4": inception_v4,
    "alexnet": alexnet,
    "alexnet-caffe": lambda: alexnet(caffe=True),
    "mobilenet-v1": mobilenet_v1,
    "mobilenet-v1-0.5-160": lambda: mobilenet_v1(0.5, 160),
    "mobilenet-v1-0.25-128": lambda: mobilenet_v1(0.25, 128),
    "mobilenet-v2": mobilenet_v2,
    "resnet-50": lambda: resnet(50),
    "resnet-50-caffe": lambda: resnet(50, caffe=True),
    **{f"squeezenet-{version}": (lambda version=version: squeezenet(version)) for version in ("1.0", "1.1")},
    **{f"resnet-{depth}": (lambda depth=depth: resnet(depth)) for depth in (18, 34, 101, 152)},
    **{f"resnet-{depth}-slim": (lambda depth=depth: resnet(depth, slim=True)) for depth in (50, 101, 152)},
    **{f"resnet-{depth}-256": (lambda depth=depth: resnet(depth, 256)) for depth in (18, 34, 50)},
    **{f"vgg-{depth}": (lambda depth=depth: vgg(depth)) for depth in (11, 13, 16, 19)},
    **{f"densenet-{depth}": (lambda depth=depth: densenet(depth)) for depth in (121, 161, 169, 201)},
    **{f"mnasnet-{width}": (lambda width=width: mnasnet(width)) for width in (0.5, 0.75, 1.0, 1.3)},
}
