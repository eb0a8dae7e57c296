"""Runs an engine's calls against stand-ins that have exactly the attributes of these bindings' classes.

As in probe_builder.py: mocks with `spec_set` refuse what the real class does not have. Prints what was called, as JSON.
"""

import importlib
import json
import sys
import types
from typing import Any
from unittest.mock import Mock

try:
    import numpy as np
except ImportError:  # a bare Python for old bindings
    np = Mock()
    np.dtype = lambda kind: types.SimpleNamespace(name="float32")
    sys.modules.update({"numpy": np, "numpy.typing": Mock()})

from googlenet_deploy.device.tensorrt.execution import Engine
from googlenet_deploy.device.tensorrt.trt_compat import TensorRT

module = importlib.import_module(sys.argv[1])
bindings_alone = sys.argv[2] == "bindings"
library = TensorRT(module, rtx=sys.argv[1] == "tensorrt_rtx")

# TensorRT 8.2 has no names of tensors; its later bindings, which have both, stand in for it.
names = {"num_io_tensors", "get_tensor_name", "get_tensor_mode", "get_tensor_shape", "get_tensor_dtype"}
spec = [name for name in dir(module.ICudaEngine) if not (bindings_alone and name in names)]
engine = Mock(spec=spec)
context = Mock(spec_set=module.IExecutionContext)
engine.create_execution_context.return_value = context
if bindings_alone:
    engine.num_bindings = 2
    engine.has_implicit_batch_dimension = False
    engine.get_binding_name.side_effect = ("input", "logits").__getitem__
    engine.binding_is_input.side_effect = (True, False).__getitem__
    engine.get_binding_shape.side_effect = ((-1, 3, 8, 8), (-1, 10)).__getitem__
    engine.get_binding_dtype.return_value = module.DataType.FLOAT
    engine.get_profile_shape.return_value = [(1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8)]
    context.set_binding_shape.return_value = True
    context.get_binding_shape.return_value = (2, 10)
    context.execute_async_v2.return_value = True
else:
    engine.num_io_tensors = 2
    engine.get_tensor_name.side_effect = ("input", "logits").__getitem__
    modes = {"input": module.TensorIOMode.INPUT, "logits": module.TensorIOMode.OUTPUT}
    engine.get_tensor_mode.side_effect = modes.__getitem__
    engine.get_tensor_shape.side_effect = {"input": (-1, 3, 8, 8), "logits": (-1, 10)}.__getitem__
    engine.get_tensor_dtype.return_value = module.DataType.FLOAT
    engine.get_tensor_profile_shape.return_value = [(1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8)]
    context.set_input_shape.return_value = True
    context.get_tensor_shape.return_value = (2, 10)
    context.execute_async_v3.return_value = True
for name in ("device_memory_size", "device_memory_size_v2"):
    if hasattr(module.ICudaEngine, name):
        setattr(engine, name, 4096)


class Shadow:
    """The module, but for a runtime that needs no GPU."""

    @staticmethod
    def Runtime(logger: Any) -> Any:
        runtime = Mock(spec_set=module.Runtime)
        runtime.deserialize_cuda_engine.return_value = engine
        return runtime

    def __getattr__(self, name: str) -> Any:
        return getattr(module, name)


library.module = Shadow()
loaded = Engine(library, b"engine", "model.engine")
run = loaded.context()
run.set_shape("input", (2, 3, 8, 8))
run.set_address("input", 4096)
run.set_address("logits", 8192)
queued = run.enqueue(7)
print(
    json.dumps(
        {
            "tensors": [[item.name, item.is_input, item.dtype, item.profile] for item in loaded.tensors],
            "shape": run.shape("logits"),
            "queued": queued,
            "memory": loaded.context_memory,
            "calls": sorted({call[0] for call in context.method_calls}),
        }
    )
)
