"""Runs onnxsim in a process of its own, so that a crash in its C++ code affects nothing else.

``python -m googlenet_deploy.export.simplify_worker INPUT.onnx OUTPUT.onnx``. Exit status 0: OUTPUT holds the
simplified model. 3: onnxsim is not installed. 4: onnxsim's own check of its result failed. Anything else: it
raised or crashed, and stderr ends with the reason.
"""

from __future__ import annotations

import inspect
import sys

NOT_INSTALLED, CHECK_FAILED = 3, 4


def main(source: str, target: str) -> int:
    """Simplifies one file; see the module's docstring."""
    # onnxsim imports PyTorch where it is installed, for forms that are not used here: two thirds of its running time.
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import onnx  # noqa: PLC0415 - the exit status shows which package is missing
        import onnxsim  # noqa: PLC0415
    except ImportError:
        return NOT_INSTALLED
    # Equal constants are not merged: each layer keeps its own weights and name, and can be quantised alone.
    options: dict[str, object] = {"skipped_optimizers": ["eliminate_duplicate_initializer"]}
    if "certify" in inspect.signature(onnxsim.simplify).parameters:
        # Newer versions would try to prove their result with a solver if one happens to be installed.
        options["certify"] = False
    simplified, checked = onnxsim.simplify(onnx.load(source), **options)
    if not checked:
        return CHECK_FAILED
    onnx.save(simplified, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
