"""The GoogLeNets as one module, parametrised by their `Architecture`."""

from __future__ import annotations

from typing import NamedTuple

from googlenet_deploy.errors import UsageError, requires
from googlenet_deploy.model.architecture import Architecture
from googlenet_deploy.model.blocks import AuxiliaryClassifier, ConvBlock, Inception, PlainInception, convolution
from googlenet_deploy.model.local_response_norm import LocalResponseNorm
from googlenet_deploy.model.widths import Widths, convolution_paths, scaled_widths

with requires("export"):
    import torch
    from torch import Tensor, nn

# BVLC's train_val.prototxt: Xavier weights and biases of 0.2, which keep the ReLUs of a deep net without
# BatchNorm alive at the start of training.
INITIAL_BIAS = 0.2
# What `forward` runs one after the other, up to the global pooling: convolutions, and what follows each of them.
STAGES = (
    ("conv1", "maxpool1", "norm1"),
    ("conv2",),
    ("conv3", "norm2", "maxpool2"),
    ("inception3a",),
    ("inception3b", "maxpool3"),
    *((f"inception4{letter}",) for letter in "abcd"),
    ("inception4e", "maxpool4"),
    ("inception5a",),
    ("inception5b",),
)


class TrainingOutputs(NamedTuple):
    """Logits (N, num_classes) of the classifier and of the auxiliary ones on 4d and 4a, during training."""

    logits: Tensor
    auxiliary2: Tensor
    auxiliary1: Tensor


class GoogLeNet(nn.Module):
    """A GoogLeNet classifier.

    Input: float32 (N, in_channels, H, W), 224x224 in the paper, at least 32x32. Output: logits (N, num_classes); in
    training mode with auxiliary classifiers, `TrainingOutputs`.

    Args:
        architecture: The architecture.
        num_classes: Number of logits, at least 2.
        width: Multiplies every channel count, for small nets; 1 is the published one.
        widths: The channels of every convolution, if they differ from those of `width`, as in a pruned network.
        auxiliary: Add the two auxiliary classifiers, which are used only in training.
        in_channels: Channels of the input.

    Raises:
        UsageError: An argument is out of range.
    """

    inception3a: Inception | PlainInception
    inception3b: Inception | PlainInception
    inception4a: Inception | PlainInception
    inception4b: Inception | PlainInception
    inception4c: Inception | PlainInception
    inception4d: Inception | PlainInception
    inception4e: Inception | PlainInception
    inception5a: Inception | PlainInception
    inception5b: Inception | PlainInception

    def __init__(
        self,
        architecture: Architecture,
        num_classes: int = 1000,
        *,
        width: float = 1.0,
        widths: Widths | None = None,
        auxiliary: bool = False,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if num_classes < 2 or width <= 0 or in_channels < 1:
            raise UsageError("a GoogLeNet needs at least 2 classes, a width above 0 and at least 1 input channel")
        self.architecture, self.num_classes, self.width = architecture, num_classes, width
        self.in_channels = in_channels
        self.widths = widths or scaled_widths(width)
        stem = self.widths.stem

        self.conv1 = convolution(architecture, in_channels, stem[0], 7, stride=2)
        self.maxpool1 = _reducing_pool(architecture, 3)
        self.norm1 = LocalResponseNorm() if architecture.local_response_norm else nn.Identity()
        self.conv2 = convolution(architecture, stem[0], stem[1], 1)
        self.conv3 = convolution(architecture, stem[1], stem[2], 3)
        self.norm2 = LocalResponseNorm() if architecture.local_response_norm else nn.Identity()
        self.maxpool2 = _reducing_pool(architecture, 3)

        channels = stem[2]
        inception = PlainInception if architecture.bare_layers else Inception
        inputs: dict[str, int] = {}
        for name, branches in self.widths.modules.items():
            inputs[name] = channels
            self.add_module(name, inception(architecture, channels, branches))
            channels = branches.out_channels
        self.maxpool3 = _reducing_pool(architecture, 3)
        self.maxpool4 = _reducing_pool(architecture, architecture.maxpool4_kernel)

        heads = [
            AuxiliaryClassifier(architecture, inputs[after], num_classes, *self.widths.auxiliary) if auxiliary else None
            for after in ("inception4b", "inception4e")
        ]
        self.aux1, self.aux2 = heads
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(architecture.dropout)
        self.fc = nn.Linear(channels, num_classes)
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor | TrainingOutputs:
        """Logits, or `TrainingOutputs` in training mode with auxiliary classifiers."""
        x = self.norm1(self.maxpool1(self.conv1(x)))
        x = self.maxpool2(self.norm2(self.conv3(self.conv2(x))))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        after_4a = self.inception4a(x)
        after_4d = self.inception4d(self.inception4c(self.inception4b(after_4a)))
        x = self.maxpool4(self.inception4e(after_4d))
        x = self.inception5b(self.inception5a(x))
        logits: Tensor = self.fc(self.dropout(torch.flatten(self.avgpool(x), 1)))
        if self.training and self.aux1 is not None and self.aux2 is not None:
            return TrainingOutputs(logits, self.aux2(after_4d), self.aux1(after_4a))
        return logits

    def convolutions(self) -> dict[str, nn.Conv2d]:
        """The convolutions outside the auxiliary classifiers, by the names of `Widths.channels`."""
        found = {}
        for name, path in convolution_paths(self.architecture).items():
            module = self.get_submodule(path)
            layer = module.conv if isinstance(module, ConvBlock) else module
            assert isinstance(layer, nn.Conv2d)
            found[name] = layer
        return found

    def update_widths(self) -> None:
        """Reads `widths` from the layers, after these were replaced or pruned in place."""
        self.widths = self.widths.with_channels({n: layer.weight.shape[0] for n, layer in self.convolutions().items()})

    def without_auxiliary(self) -> GoogLeNet:
        """This same model without its auxiliary classifiers, as it is exported."""
        self.aux1 = self.aux2 = None
        return self

    def reset_parameters(self) -> None:
        """Initialises the weights.

        Xavier and a bias of 0.2 for the paper's net, Kaiming for the batch-normalised one. The plain net gets Xavier
        weights, which preserve the variance through its linear modules, and biases of 0, since it has no ReLUs there to
        keep alive.
        """
        bias = INITIAL_BIAS if self.architecture.inner_relu else 0.0
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if module.bias is None:
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                else:
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.constant_(module.bias, bias)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)


def _reducing_pool(architecture: Architecture, kernel: int) -> nn.MaxPool2d:
    """A stride-2 max-pool that reduces 112 to 56, 56 to 28, and so on, padded as in the architecture."""
    if architecture.padded_pools:
        return nn.MaxPool2d(kernel, stride=2, padding=kernel // 2)
    return nn.MaxPool2d(kernel, stride=2, ceil_mode=True)
