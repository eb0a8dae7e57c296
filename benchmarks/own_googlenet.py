"""A GoogLeNet as a user writes one in a file of their own, after torchvision's: the network of `bring_your_own.py`.

The toolkit knows nothing of it and gets it by ``--module benchmarks/own_googlenet.py:googlenet``. Unlike the toolkit's
networks it returns a named tuple in training, rearranges its input if asked, and flattens with a view.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

# Channels of 1x1, 3x3 reduced, 3x3, "5x5" reduced, "5x5" and pool projection, by module (Szegedy et al. 2014, Table 1).
CHANNELS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class Outputs(NamedTuple):
    """Scores of the network and of its auxiliary heads, float32 (N, classes)."""

    logits: Tensor
    aux_logits2: Tensor
    aux_logits1: Tensor


class BasicConv2d(nn.Module):
    """Convolution, BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class Inception(nn.Module):
    """Four branches, whose outputs are joined."""

    def __init__(self, inputs: int, one: int, reduce3: int, three: int, reduce5: int, five: int, pool: int) -> None:
        super().__init__()
        self.branch1 = BasicConv2d(inputs, one, 1)
        self.branch2 = nn.Sequential(BasicConv2d(inputs, reduce3, 1), BasicConv2d(reduce3, three, 3))
        self.branch3 = nn.Sequential(BasicConv2d(inputs, reduce5, 1), BasicConv2d(reduce5, five, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv2d(inputs, pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class Auxiliary(nn.Module):
    """A head for training, on 14x14 features."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.conv = BasicConv2d(inputs, 128, 1)
        self.fc1, self.fc2 = nn.Linear(2048, 1024), nn.Linear(1024, classes)
        self.dropout = nn.Dropout(0.7)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(self.conv(functional.adaptive_avg_pool2d(x, (4, 4))), 1)
        scores: Tensor = self.fc2(self.dropout(functional.relu(self.fc1(x), inplace=True)))
        return scores


class OwnGoogLeNet(nn.Module):
    """The network; its auxiliary heads run in training only."""

    def __init__(self, num_classes: int, transform_input: bool) -> None:
        super().__init__()
        self.transform_input = transform_input
        self.conv1 = BasicConv2d(3, 64, 7, 2)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.conv3 = BasicConv2d(64, 64, 1), BasicConv2d(64, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        inputs = 192
        for name, channels in CHANNELS.items():
            self.add_module(f"inception{name}", Inception(inputs, *channels))
            inputs = channels[0] + channels[2] + channels[4] + channels[5]
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.aux1, self.aux2 = Auxiliary(512, num_classes), Auxiliary(528, num_classes)
        self.avgpool, self.dropout = nn.AdaptiveAvgPool2d((1, 1)), nn.Dropout(0.2)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor | Outputs:
        if self.transform_input:
            means, deviations = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
            parts = [x[:, i : i + 1] * (deviations[i] / 0.5) + (means[i] - 0.5) / 0.5 for i in range(3)]
            x = torch.cat(parts, 1)
        x = self.maxpool2(self.conv3(self.conv2(self.maxpool1(self.conv1(x)))))
        heads = []
        for name in CHANNELS:
            if self.training and name in ("4b", "4e"):
                heads.append((self.aux1 if name == "4b" else self.aux2)(x))
            x = self.get_submodule(f"inception{name}")(x)
            if name in ("3b", "4e"):
                x = (self.maxpool3 if name == "3b" else self.maxpool4)(x)
        x = self.dropout(self.avgpool(x).view(x.shape[0], -1))
        scores: Tensor = self.fc(x)
        return Outputs(scores, heads[1], heads[0]) if self.training else scores


def googlenet(num_classes: int = 1000, transform_input: bool = False) -> OwnGoogLeNet:
    """The factory that ``--module`` names."""
    return OwnGoogLeNet(num_classes, transform_input)
