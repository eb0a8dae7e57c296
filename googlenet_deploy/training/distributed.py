"""The processes of one run: this one alone, or as many as `torchrun` started, on one machine or several.

torchrun passes each process its number in the environment variables RANK and LOCAL_RANK, and the number of processes in
WORLD_SIZE and LOCAL_WORLD_SIZE. Process 0 prints and writes files; all processes compute the same steps on their share
of each batch.
"""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from googlenet_deploy.errors import DeviceError, GoogLeNetDeployError, UsageError, first_line, requires

with requires("train"):
    import torch
    from torch import Tensor, distributed, nn

if TYPE_CHECKING:
    from googlenet_deploy.model.googlenet import GoogLeNet


if TYPE_CHECKING:
    from collections.abc import Iterator

    from googlenet_deploy.training.options import TrainingOptions

    Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """Which process this is, and its collective operations with the others.

    Attributes:
        rank: Number of this process, from 0.
        count: Number of processes.
        device: The device of this process.
        here: Number of processes on this machine.
    """

    rank: int
    count: int
    device: torch.device
    here: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process prints and writes files."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place of `values`.

        Raises:
            GoogLeNetDeployError: Another process has died.
        """
        if self.count > 1:
            with lost_process():
                distributed.all_reduce(values)
        return values

    def gather(self, value: Value) -> list[Value]:
        """Every process's value, by rank; the values travel by pickle between the run's own processes.

        Raises:
            GoogLeNetDeployError: Another process has died.
        """
        if self.count == 1:
            return [value]
        values: list[Value | None] = [None] * self.count
        with lost_process():
            distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value] # all of them are filled in


@contextmanager
def lost_process() -> Iterator[None]:
    """Turns the failure of a collective operation into a clear error.

    Raises:
        GoogLeNetDeployError: Another process has died.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise GoogLeNetDeployError(
            f"another process of this run has stopped: {first_line(error)}",
            "its own message states why; start the run again with --resume",
        ) from error


@contextmanager
def started_processes(device: str) -> Iterator[Processes]:
    """Joins the processes that torchrun started, or runs alone; leaves the group at the end.

    Args:
        device: "cpu", "cuda", or "auto" for a GPU if one is available.

    Raises:
        DeviceError: "cuda" was requested and no GPU is available, or there are more processes than GPUs.
        UsageError: torchrun's environment variables are damaged.
    """
    try:
        rank, count, local, here = (int(os.environ.get(name, default)) for name, default in _VARIABLES)
    except ValueError as error:
        raise UsageError(
            f"one of RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE is not a number: {error}"
        ) from error
    if min(count, here) < 1:
        raise UsageError(f"WORLD_SIZE is {count} and LOCAL_WORLD_SIZE {here}: both count processes, from 1")
    chosen = choose_device(device, local if count > 1 else None)
    if count == 1:
        yield Processes(0, 1, chosen)
        return
    with lost_process():
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        with warnings.catch_warnings():
            for message in _UNIMPORTANT:
                warnings.filterwarnings("ignore", message)
            yield Processes(rank, count, chosen, here)
    finally:
        distributed.destroy_process_group()


_VARIABLES = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))
# The new name of an argument that older releases lack, and that a kernel of 1x1 is stored in either memory order.
_UNIMPORTANT = ("`broadcast_buffers` is deprecated", "Grad strides do not match bucket view strides")


def choose_device(name: str, local_rank: int | None = None) -> torch.device:
    """The device selected by `--device`; each process on a machine has its own GPU.

    Raises:
        DeviceError: "cuda" was requested and there are no GPUs, or too few.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceError("this PyTorch finds no CUDA GPU", "use --device cpu, or install a PyTorch with CUDA")
    if local_rank is None:
        return torch.device("cuda")
    if local_rank >= torch.cuda.device_count():
        raise DeviceError(
            f"there are more processes on this machine than its {torch.cuda.device_count()} GPUs",
            "start as many with torchrun --nproc-per-node",
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def check_division(options: TrainingOptions, images: int, processes: int) -> int:
    """Images per step: the batch size, or all images if there are fewer.

    Raises:
        UsageError: They cannot be divided among the processes and their parts.
    """
    size, parts = min(options.batch_size, images), processes * options.accumulate
    unit = parts * (2 if options.mixup else 1)
    if size % unit or size < unit:
        among = f"{processes} processes of {options.accumulate} parts" + (" of pairs" if options.mixup else "")
        raise UsageError(f"a step of {size} images cannot be divided among {among}: choose a multiple of {unit}")
    return size


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is summed as well, since each process's loss depends on it."""

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
    """`nn.BatchNorm2d` with training statistics over all processes, each with equally many images."""

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
    """Makes every BatchNorm of a model use the images of all processes, in place."""
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
