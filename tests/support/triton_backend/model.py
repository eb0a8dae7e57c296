"""A Python backend that Triton loads under the name of its ONNX Runtime backend, which no wheel contains.

It runs inside the server's own Python. It is only for the tests; bundles never contain it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnxruntime
import triton_python_backend_utils as backend


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / config["default_model_filename"]
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.names = [output["name"] for output in config["output"]]
        self.input = config["input"][0]["name"]

    def execute(self, requests: list[Any]) -> list[Any]:
        responses = []
        for request in requests:
            image = backend.get_input_tensor_by_name(request, self.input).as_numpy()
            values = self.session.run(self.names, {self.input: image})
            tensors = [backend.Tensor(name, value) for name, value in zip(self.names, values, strict=True)]
            responses.append(backend.InferenceResponse(tensors))
        return responses
