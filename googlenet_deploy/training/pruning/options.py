"""Options of a pruning run, and the available measures of importance and size."""

from __future__ import annotations

from dataclasses import dataclass

from googlenet_deploy.device.options import check_options, option
from googlenet_deploy.errors import UsageError

# By name, where to import a function that scores channels; see `taylor.score_channels`.
IMPORTANCES: dict[str, str] = {
    "taylor": "googlenet_deploy.training.pruning.taylor:score_channels",
    "magnitude": "googlenet_deploy.training.pruning.magnitude:score_channels",
}
# By name, where to import a function that opens a size measure; see `multiply_adds.open_measure`.
MEASURES: dict[str, str] = {
    "multiply-adds": "googlenet_deploy.training.pruning.multiply_adds:open_measure",
    "latency": "googlenet_deploy.training.pruning.prediction:open_latency",
    "energy": "googlenet_deploy.training.pruning.prediction:open_energy",
}
PRUNING = "pruning"
DEFAULT_ROUNDING, INT8_ROUNDING = 16, 32


@dataclass(frozen=True)
class PruningOptions:
    """How a network is pruned."""

    share: float = option(
        0.5, "remove this share of the multiply-adds (or of --prune-by) of the network of --weights: whole channels, "
        "in steps, with training between and after them", group=PRUNING, flag="--prune", metavar="X", above=0, below=1,
        shown_default="",
    )  # fmt: skip
    by: str = option(
        "multiply-adds", "what --prune is a share of: multiply-adds, or latency or energy as predicted for --target in "
        "FP16", group=PRUNING, flag="--prune-by", metavar="SIZE",
        choices=tuple(MEASURES),
    )  # fmt: skip
    importance: str = option(
        "taylor", "which channels go first: those that the loss depends on least, to first order (taylor), or those of "
        "the smallest weights (magnitude)", group=PRUNING, flag="--prune-importance", metavar="I",
        choices=tuple(IMPORTANCES),
    )  # fmt: skip
    rounding: int | None = option(
        None, "channels that a pruned layer keeps are a multiple of this", group=PRUNING, flag="--prune-round",
        metavar="N", least=1, most=256, shown_default=f"{DEFAULT_ROUNDING}; {INT8_ROUNDING} for a --target with INT8",
    )  # fmt: skip
    steps: int = option(
        4, "steps in which the share is removed", group=PRUNING, flag="--prune-steps", metavar="N", least=1
    )
    every: int = option(
        1, "epochs of training between two steps", group=PRUNING, flag="--prune-every", metavar="EPOCHS", least=1
    )
    target: str | None = option(
        None, "the module that it is for, such as nano or orin-nano", group=PRUNING, metavar="T", shown_default="any"
    )

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def last_epoch(self) -> int:
        """The epoch, counted from 1, that begins with the last step; from then on the network has its final size."""
        return 1 + (self.steps - 1) * self.every

    def check_epochs(self, epochs: int) -> None:
        """Refuses a run that ends before its last step.

        Raises:
            UsageError: It does.
        """
        if epochs < self.last_epoch:
            raise UsageError(
                f"--epochs {epochs}: the last of {self.steps} pruning steps comes with epoch {self.last_epoch}",
                f"pass --epochs {self.last_epoch + self.every} or more, or fewer --prune-steps",
            )

    def step_at(self, epoch: int) -> int:
        """The step, counted from 1, that an epoch begins with; 0 for none."""
        number, rest = divmod(epoch - 1, self.every)
        return number + 1 if rest == 0 and number < self.steps else 0

    def remaining(self, step: int) -> float:
        """Target size after a step, as a share of the unpruned network: each step removes the same proportion."""
        return float((1.0 - self.share) ** (step / self.steps))
