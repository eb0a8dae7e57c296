"""Local response normalisation that is exported as a single operator.

PyTorch's exporter decomposes ``torch.nn.LocalResponseNorm`` into Pad, AveragePool, Pow and Div: slower, its sum of
squares overflows in FP16, and TensorRT refuses to quantise around it. While a model is being exported, this
module calls an operator of its own, which the exporter translates to ONNX ``LRN``.
"""

from __future__ import annotations

from googlenet_deploy.errors import requires

with requires("export"):
    import torch
    from torch import Tensor, nn
    from torch.nn import functional


@torch.library.custom_op("googlenet_deploy::local_response_norm", mutates_args=())
def local_response_norm(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """``x / (k + alpha / size * sum of x² over size neighbouring channels) ** beta``, shape (N, C, H, W).

    Krizhevsky et al. 2012, section 3.3, with alpha divided by the window as Caffe and ONNX do.
    """
    return functional.local_response_norm(x, size, alpha, beta, k)


@local_response_norm.register_fake
def _(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:  # noqa: ARG001 - the operator's schema
    return torch.empty_like(x)


class LocalResponseNorm(nn.Module):
    """LRN across channels; defaults are those of the BVLC GoogLeNet.

    Args:
        size: Number of neighbouring channels in the sum, odd.
        alpha: Factor of the mean of squares.
        beta: Exponent.
        k: Constant added before the exponent is applied.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Tensor) -> Tensor:
        """Normalises `x`, shape (N, C, H, W); in float32, since squares of activations overflow in float16."""
        if torch.compiler.is_exporting():
            exported: Tensor = local_response_norm(x, self.size, self.alpha, self.beta, self.k)
            return exported
        normalised = functional.local_response_norm(x.float(), self.size, self.alpha, self.beta, self.k)
        return normalised.to(x.dtype)

    def extra_repr(self) -> str:
        """The parameters, for `print(model)`."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
