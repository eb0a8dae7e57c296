"""Small rotations, shifts and changes of scale: the augmentation "light"."""

from __future__ import annotations

from googlenet_deploy.errors import requires

with requires("train"):
    import torch
    from kornia.geometry.transform import get_affine_matrix2d, warp_affine
    from torch import Tensor, nn

LIGHT_DEGREES, LIGHT_SHIFT, LIGHT_SCALE = 8.0, 0.06, 0.1


class Affine(nn.Module):
    """Small random rotations, shifts and changes of scale; areas from outside the image repeat its border."""

    def forward(self, x: Tensor, numbers: Tensor) -> Tensor:
        """float32 (N, C, H, W) in 0..1 to the same."""
        height, width = x.shape[2:]
        signed = 2.0 * numbers.to(x.device, non_blocking=True) - 1.0
        size = torch.tensor([width, height], dtype=x.dtype, device=x.device)
        matrix = get_affine_matrix2d(
            translations=signed[:, 1:3] * LIGHT_SHIFT * size,
            center=((size - 1.0) / 2.0).expand(len(x), 2),
            scale=(1.0 + LIGHT_SCALE * signed[:, 3:4]).expand(-1, 2),
            angle=signed[:, 0] * LIGHT_DEGREES,
        )
        moved: Tensor = warp_affine(x, matrix[:, :2], (height, width), padding_mode="border", align_corners=False)
        return moved.clamp_(0.0, 1.0)
