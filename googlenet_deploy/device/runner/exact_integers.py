"""ONNX Runtime's sessions that compute a quantised model as it is written, the same on every processor.

On x86 processors without VNNI its uint8 x int8 kernels add two products in 16 bits, which overflow: a quantised model
answers otherwise there than on any other device. `session.x64quantprecision` turns int8 weights into uint8, whose
kernels are exact, and changes nothing on other processors
(onnxruntime_session_options_config_keys.h, kOrtSessionOptionsAvx2PrecisionMode).

Its optimiser also rounds weights that are float to INT8 steps of its own where their layer lies between Q/DQ pairs
(optimizer/qdq_transformer/weight_bias_quantization.cc); that is off too.
"""

from __future__ import annotations

from typing import Any, Callable, List

from googlenet_deploy.errors import requires

with requires("runtime"):
    import onnxruntime

EXACT = "session.x64quantprecision"
ROUNDING = ["WeightBiasQuantization"]


def start_exact(model: bytes, options: Callable[[], Any], providers: List[str]) -> Any:  # noqa: ANN401 - has no types
    """A session whose integer kernels are exact and whose float weights stay what they are.

    ONNX Runtime also rewrites int8 x int8 QGemm, for which it then has no kernel; as it stands that operator is exact
    already, so that a model with it is opened without the rewriting.

    Args:
        model: The model, serialised.
        options: Makes the session's other options.
        providers: ONNX Runtime's execution providers.

    Raises:
        Exception: What ONNX Runtime raises; its exceptions share no base class.
    """
    exact = options()
    exact.add_session_config_entry(EXACT, "1")
    try:
        return _start(model, exact, providers)
    except Exception as error:
        if "NOT_IMPLEMENTED" not in str(error):
            raise
    return _start(model, options(), providers)


def _start(model: bytes, options: Any, providers: List[str]) -> Any:  # noqa: ANN401 - ONNX Runtime has no types
    return onnxruntime.InferenceSession(
        model, options, providers=providers, enable_fallback=0, disabled_optimizers=ROUNDING
    )
