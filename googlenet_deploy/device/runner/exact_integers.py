"""ONNX Runtime sessions that compute a quantised model exactly as written, with the same result on every processor.

On x86 processors without VNNI, its uint8 x int8 kernels add two products in 16 bits, which overflows: a quantised model
then answers differently from every other device. `session.x64quantprecision` turns int8 weights into uint8, whose
kernels are exact, and changes nothing on other processors
(onnxruntime_session_options_config_keys.h, kOrtSessionOptionsAvx2PrecisionMode).

Its optimiser also quantises the float weights of layers between Q/DQ pairs to INT8 with scales of its own
(optimizer/qdq_transformer/weight_bias_quantization.cc); that is disabled too.
"""

from __future__ import annotations

from typing import Any, Callable, List

from googlenet_deploy.errors import requires

with requires("runtime"):
    import onnxruntime

EXACT = "session.x64quantprecision"
ROUNDING = ["WeightBiasQuantization"]


def start_exact(model: bytes, options: Callable[[], Any], providers: List[str]) -> Any:  # noqa: ANN401 - has no types
    """Starts a session whose integer kernels are exact and whose float weights are not changed.

    The option also rewrites int8 x int8 QGemm into a form for which ONNX Runtime has no kernel. That operator is exact
    as it is, so models that contain it are opened without the option.

    Args:
        model: The model, serialised.
        options: Creates the session's other options.
        providers: ONNX Runtime's execution providers.

    Raises:
        Exception: Whatever ONNX Runtime raises; its exceptions have no common base class.
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
