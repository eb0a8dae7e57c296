"""Runs the builder's calls against stand-ins that have exactly the attributes of these bindings' classes.

Without a GPU the bindings make no builder. Mocks with `spec_set` take their place: they refuse every attribute that the
real class does not have, and the enumerators are the real ones. Prints what was called, as JSON.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

try:
    import numpy  # noqa: F401
except ImportError:  # a bare Python for old bindings; nothing of what is called here computes with NumPy
    sys.modules.update({"numpy": Mock(), "numpy.typing": Mock()})

from googlenet_deploy.device.builder.options import BuildOptions
from googlenet_deploy.device.builder.plan import BuildRequest, Site, plan_build
from googlenet_deploy.device.builder.session import BuildSession
from googlenet_deploy.device.onnx_model import header as onnx_header
from googlenet_deploy.device.onnx_model import scales
from googlenet_deploy.device.onnx_model.header import parse_onnx
from googlenet_deploy.device.system.gpu import Gpu
from googlenet_deploy.device.tensorrt.trt_compat import TensorRT

onnx_header._check_scales = lambda *_, **__: None  # NumPy is a stand-in here, and has no numbers
scales._value_problem = lambda *_, **__: None

module = importlib.import_module(sys.argv[1])
model, precision, extra = Path(sys.argv[2]), sys.argv[3], sys.argv[4].split(",")
library = TensorRT(module, rtx=sys.argv[1] == "tensorrt_rtx")
site = Site(library.label, library.version, library.rtx)
header = parse_onnx(model.read_bytes(), str(model))
options = BuildOptions(
    precision=precision or None,
    batch=(4, 4, 4) if "dla" in extra else (1, 4, 8),
    workspace_bytes=2**28,
    timing_cache="cache",
    sparsity=True,
    tf32=False,
    refit="strip" not in extra,
    strip_plan="strip" in extra,
    tactic_sources=("EDGE_MASK_CONVOLUTIONS",),
    optimization_level=4 if "level" in extra else None,
    version_compatible="version" in extra,
    hardware_compatible="ampere+" if "hardware" in extra else None,
    dla_core=0 if "dla" in extra else None,
    compute_capabilities=((8, 6), (8, 9)) if "ahead" in extra else (),
)
plan = plan_build(header, str(model), options, site)
builder = Mock(spec_set=module.Builder)
builder.num_DLA_cores = 2
network = Mock(spec_set=module.INetworkDefinition)
layer = Mock(spec_set=module.ILayer)
layer.name, layer.type = "norm", module.LayerType.LRN
network.num_outputs, network.num_layers = 1, 1
network.get_layer.return_value = layer
config = Mock(spec_set=module.IBuilderConfig)
config.can_run_on_DLA.return_value = True
builder.create_network.return_value = network
builder.create_builder_config.return_value = config
builder.create_optimization_profile.return_value = Mock(spec_set=module.IOptimizationProfile)
builder.build_serialized_network.return_value = b"engine"
parser = Mock(spec_set=module.OnnxParser)
parser.parse.return_value = True
library.builder = lambda logger: builder
library.parser = lambda network, logger: parser
config.get_timing_cache.return_value = Mock(spec_set=module.ITimingCache, serialize=lambda: b"timings")

runtime = Mock(spec_set=module.Runtime)
engine = Mock(spec_set=module.ICudaEngine)
runtime.deserialize_cuda_engine.return_value = engine
for name in ("device_memory_size", "device_memory_size_v2"):
    if hasattr(module.ICudaEngine, name):
        setattr(engine, name, 4096)
inspector = Mock(spec_set=module.EngineInspector)
inspector.get_engine_information.return_value = '{"Layers": ["norm"]}'
engine.create_engine_inspector.return_value = inspector


class Shadow:
    """The module, but for a runtime that needs no GPU."""

    Runtime = staticmethod(lambda logger: runtime)

    def __getattr__(self, name: str) -> Any:
        return getattr(module, name)


library.module = Shadow()
gpu = Gpu("GPU", (8, 7), None)
request = BuildRequest(str(model), header, options, plan, gpu, "googlenet-deploy build", timing_cache=b"")
result = BuildSession(library, request).build()
flags = [str(call.args[0]).rpartition(".")[2] for call in config.set_flag.call_args_list]
print(
    json.dumps(
        {
            "flags": flags,
            "network_flags": builder.create_network.call_args.args[0],
            "dialect": plan.dialect,
            "layer_precision": str(layer.precision) if plan.keep_fp32 else "",
            "cleared": [str(call.args[0]).rpartition(".")[2] for call in config.clear_flag.call_args_list],
            "memory": result.manifest.device_memory_bytes,
            "layers": len(result.layers or []),
            "set": sorted(name for name in dir(config) if not name.startswith("_")),
        }
    )
)
