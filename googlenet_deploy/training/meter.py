"""Running totals of an epoch: loss and correct predictions, over all processes, read one step late.

Reading a number from a GPU waits until the GPU has finished all earlier work. So each step's metrics are copied to the
host asynchronously right after the step, and read once the next step has been launched; call `flush` to get them at
once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from googlenet_deploy.errors import GoogLeNetDeployError, requires

with requires("train"):
    import torch

if TYPE_CHECKING:
    from torch import Tensor

    from googlenet_deploy.training.distributed import Processes


class EpochMeter:
    """Sums since the beginning of an epoch.

    Attributes:
        loss: Sum of the loss over the images.
        correct: Number of correct predictions.
        images: Number of images, over all processes.
        stop: A process was asked to stop; all of them learn it after the same step.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.stop = False
        self._pending: tuple[Copied, str] | None = None
        self.reset()

    def reset(self, loss: float = 0.0, correct: int = 0, images: int = 0) -> None:
        """Restarts from zero, or from the point where an epoch was interrupted."""
        self.loss, self.correct, self.images = loss, correct, images

    def add(self, loss: Tensor, correct: Tensor, images: int, *, stop: bool, where: str) -> None:
        """Adds a step.

        Args:
            loss: Sum over this process's images, a single value.
            correct: Correct predictions among them, a single value.
            images: Number of this process's images.
            stop: This process was asked to stop.
            where: The step, for messages.

        Raises:
            GoogLeNetDeployError: The loss of the step before is not a finite number, or a process has died.
        """
        sums = [loss.double(), correct.double()]
        # Filled on the device: copying them there would wait for it.
        counts = [torch.full_like(sums[0], value) for value in (images, stop)]
        values = Copied(self.processes.sum(torch.stack([*sums, *counts])))
        self.flush()
        self._pending = values, where

    def flush(self) -> None:
        """Reads what has not been read yet.

        Raises:
            GoogLeNetDeployError: A loss is not a finite number.
        """
        if self._pending is None:
            return
        values, where = self._pending
        self._pending = None
        loss, correct, images, stop = values.read()
        require_finite(loss / images, f"the loss in {where}")
        self.loss += loss
        self.correct += int(correct)
        self.images += int(images)
        self.stop = self.stop or stop > 0

    @property
    def mean_loss(self) -> float:
        """Mean over the images so far."""
        return self.loss / max(1, self.images)

    @property
    def percent_correct(self) -> float:
        """Share of correct predictions so far, in percent."""
        return 100.0 * self.correct / max(1, self.images)


class Copied:
    """Numbers being copied from a device asynchronously; work queued on the device later does not delay them.

    Args:
        values: Float64 (N,) on the device.
    """

    def __init__(self, values: Tensor) -> None:
        self.values, self.arrived = values, None
        if values.is_cuda:
            self.values = torch.empty_like(values, device="cpu", pin_memory=True)
            self.values.copy_(values, non_blocking=True)
            self.arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.arrived.record()

    def read(self) -> list[float]:
        """Waits for them."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return [float(value) for value in self.values]


def require_finite(value: float, what: str) -> None:
    """Checks that a number is finite.

    Raises:
        GoogLeNetDeployError: It is infinite or not a number.
    """
    if not abs(value) < float("inf"):
        raise GoogLeNetDeployError(
            f"training diverged: {what} is {value}", "try a lower --lr, a longer --warmup, or --clip 1"
        )
