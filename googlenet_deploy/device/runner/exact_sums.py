"""Keeps ONNX Runtime from INT8 sums that saturate.

Its optimiser makes integer operators of ``DQ -> Conv -> Q`` and gives signed activations a zero point of 128 for that.
On x86 processors without VNNI or AMX, vpmaddubsw adds two products of such codes with weights in 16 bits: 255 * 127
twice is 64770, and what is beyond 32767 is lost. Without these fusions Q/DQ are computed as ONNX defines them, in
float32. Operators that are integer in the model itself stay; those of `cpu_graph` keep to codes of 7 bits, which fit.
"""

from __future__ import annotations

from typing import Any

from googlenet_deploy.device.system.processor import is_x86, sums_int8_exactly

_WITHOUT_FUSIONS = "session.disable_quant_qdq"


def keep_sums_exact(options: Any) -> None:  # noqa: ANN401 - ONNX Runtime has no types
    """Switches the fusions off in a CPU session's `options` where this processor's sums would saturate."""
    if is_x86() and not sums_int8_exactly():
        options.add_session_config_entry(_WITHOUT_FUSIONS, "1")
