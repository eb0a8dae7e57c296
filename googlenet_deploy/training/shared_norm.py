"""BatchNorm over the images of all processes, so that a divided step normalises as an undivided one does.

On GPUs it is PyTorch's own; that one refuses to run on a CPU, hence the second one here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from googlenet_deploy.errors import requires
from googlenet_deploy.training.distributed import lost_process

with requires("train"):
    import torch
    from torch import Tensor, distributed, nn

if TYPE_CHECKING:
    from googlenet_deploy.model.googlenet import GoogLeNet
    from googlenet_deploy.training.distributed import Processes


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient, since each process's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ANN401, ARG004 - torch's signature
        return _all_reduced(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:  # noqa: ANN401, ARG004 - torch's signature
        return _all_reduced(gradients[0])


def _all_reduced(values: Tensor) -> Tensor:
    total = values.detach().clone(memory_format=torch.contiguous_format)
    with lost_process():
        distributed.all_reduce(total)
    return total


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


class SharedBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with statistics over all processes while training, each with as many images."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        count = distributed.get_world_size() * x.numel() / x.shape[1]
        mean = _sum(x.sum(dim=(0, 2, 3))) / count
        centred = x - mean.view(1, -1, 1, 1)
        variance = _sum((centred * centred).sum(dim=(0, 2, 3))) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias.view(1, -1, 1, 1), centred, scale.view(1, -1, 1, 1))


def share_batch_norm(model: GoogLeNet, processes: Processes) -> None:
    """Makes every BatchNorm of a model count the images of all processes, in place."""
    if processes.count == 1:
        return
    if processes.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.BatchNorm2d:
                shared = SharedBatchNorm(child.num_features, eps=child.eps, momentum=child.momentum)
                shared.load_state_dict(child.state_dict())
                setattr(module, name, shared)
