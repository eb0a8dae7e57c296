"""The building blocks of the GoogLeNets, with the attribute names of their published weights."""

from __future__ import annotations

from googlenet_deploy.errors import requires
from googlenet_deploy.model.architecture import Architecture, InceptionWidths

with requires("export"):
    import torch
    from torch import Tensor, nn
    from torch.nn import functional

BATCH_NORM_EPSILON = 0.001


class ConvBlock(nn.Module):
    """Convolution and ReLU, with either BatchNorm in between or a bias, depending on the architecture.

    Padding keeps the size at stride 1: (kernel - 1) / 2 on each side.
    """

    def __init__(
        self, architecture: Architecture, in_channels: int, out_channels: int, kernel: int, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=not architecture.batch_norm
        )
        self.bn = nn.BatchNorm2d(out_channels, eps=BATCH_NORM_EPSILON) if architecture.batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return functional.relu(x, inplace=True)


class ConvRelu(nn.Conv2d):
    """The convolution with bias of the plain net's stem and heads, and ReLU: one layer, so its tensors are its own."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        return functional.relu(super().forward(x), inplace=True)


def convolution(
    architecture: Architecture, in_channels: int, out_channels: int, kernel: int, stride: int = 1
) -> ConvBlock | ConvRelu:
    """A convolution with ReLU, in the architecture's own form."""
    if architecture.bare_layers:
        return ConvRelu(in_channels, out_channels, kernel, stride)
    return ConvBlock(architecture, in_channels, out_channels, kernel, stride)


class Inception(nn.Module):
    """One Inception module (Figure 2b of the paper): four branches on the same input, concatenated."""

    def __init__(self, architecture: Architecture, in_channels: int, widths: InceptionWidths) -> None:
        super().__init__()
        large = architecture.large_kernel
        self.branch1 = ConvBlock(architecture, in_channels, widths.conv1x1, 1)
        self.branch2 = nn.Sequential(
            ConvBlock(architecture, in_channels, widths.reduce3x3, 1),
            ConvBlock(architecture, widths.reduce3x3, widths.conv3x3, 3),
        )
        self.branch3 = nn.Sequential(
            ConvBlock(architecture, in_channels, widths.reduce5x5, 1),
            ConvBlock(architecture, widths.reduce5x5, widths.conv5x5, large),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            ConvBlock(architecture, in_channels, widths.pool_proj, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels of the widths, H, W)."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class PlainInception(nn.Module):
    """An Inception module whose convolutions have no ReLU, so that its activations are signed.

    The four branches are the paper's; each is linear except for the max-pool of the last.
    """

    def __init__(self, architecture: Architecture, in_channels: int, widths: InceptionWidths) -> None:
        super().__init__()
        large = architecture.large_kernel
        self.layer1 = nn.Conv2d(in_channels, widths.conv1x1, 1)
        self.layer2 = nn.Sequential(
            nn.Conv2d(in_channels, widths.reduce3x3, 1),
            nn.Conv2d(widths.reduce3x3, widths.conv3x3, 3, padding=1),
        )
        self.layer3 = nn.Sequential(
            nn.Conv2d(in_channels, widths.reduce5x5, 1),
            nn.Conv2d(widths.reduce5x5, widths.conv5x5, large, padding=large // 2),
        )
        self.layer4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Conv2d(in_channels, widths.pool_proj, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels of the widths, H, W)."""
        return torch.cat([self.layer1(x), self.layer2(x), self.layer3(x), self.layer4(x)], dim=1)


class AuxiliaryClassifier(nn.Module):
    """The training-time classifier on 4a's and 4d's output (section 5 of the paper).

    The paper pools with a 5x5 window and stride 3, which takes 14x14 to 4x4; torchvision pools adaptively to 4x4.
    At other input sizes the nets without BatchNorm pool the strided result to 4x4 adaptively, so that the
    fully connected layer always fits.
    """

    def __init__(
        self, architecture: Architecture, in_channels: int, num_classes: int, conv_width: int, hidden_width: int
    ) -> None:
        super().__init__()
        self.strided_pool = not architecture.batch_norm
        self.conv = convolution(architecture, in_channels, conv_width, 1)
        self.fc1 = nn.Linear(conv_width * 4 * 4, hidden_width)
        self.fc2 = nn.Linear(hidden_width, num_classes)
        self.dropout = nn.Dropout(architecture.auxiliary_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to logits (N, num_classes)."""
        if self.strided_pool and min(x.shape[-2:]) >= 5:
            x = functional.avg_pool2d(x, 5, stride=3)
        x = functional.adaptive_avg_pool2d(x, (4, 4))
        x = torch.flatten(self.conv(x), 1)
        x = functional.relu(self.fc1(x), inplace=True)
        logits: Tensor = self.fc2(self.dropout(x))
        return logits
