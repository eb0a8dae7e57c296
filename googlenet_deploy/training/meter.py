"""What the steps of an epoch amount to: loss and right answers, over all processes, read one step late.

Reading a number from a GPU waits until the GPU has reached it. So each step's numbers are read when the next step has
been launched; whoever needs them at once calls `flush`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from googlenet_deploy.errors import GoogLeNetDeployError, requires

with requires("train"):
    import torch

if TYPE_CHECKING:
    from torch import Tensor

    from googlenet_deploy.training.distributed import Processes


class Meter:
    """Sums since the beginning of an epoch.

    Attributes:
        loss: Sum of the loss over the images.
        correct: Right answers.
        images: Images, over all processes.
        stop: A process was asked to stop; all of them learn it after the same step.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.stop = False
        self._pending: tuple[Tensor, str] | None = None
        self.reset()

    def reset(self, loss: float = 0.0, correct: int = 0, images: int = 0) -> None:
        """Begins anew, or where an interrupted epoch was."""
        self.loss, self.correct, self.images = loss, correct, images

    def add(self, loss: Tensor, correct: Tensor, images: int, *, stop: bool, where: str) -> None:
        """Adds a step.

        Args:
            loss: Sum over this process's images, one value.
            correct: Right answers among them, one value.
            images: This process's images.
            stop: This process was asked to stop.
            where: The step, for people.

        Raises:
            GoogLeNetDeployError: The loss of the step before is not a finite number, or a process has died.
        """
        counts = torch.tensor([images, stop], dtype=torch.float64, device=loss.device)
        values = self.processes.sum(torch.cat([torch.stack([loss.double(), correct.double()]), counts]))
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
        loss, correct, images, stop = values.tolist()
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
        """Share of right answers so far, in percent."""
        return 100.0 * self.correct / max(1, self.images)


def require_finite(value: float, what: str) -> None:
    """Checks that a number is one.

    Raises:
        GoogLeNetDeployError: It is infinite or not a number.
    """
    if not abs(value) < float("inf"):
        raise GoogLeNetDeployError(
            f"training diverged: {what} is {value}", "try a lower --lr, a longer --warmup, or --clip 1"
        )
