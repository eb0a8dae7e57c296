"""Every variant of a Triton bundle on a real server, asked by the client that the bundle brings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from triton_server import Triton, find_triton, triton_server

from googlenet_deploy.device.images.decode import load_image
from googlenet_deploy.device.preprocess import crop_pixels, preprocess
from googlenet_deploy.export.passes.outputs import AppendSoftmax, AppendTopK, SetBatch
from googlenet_deploy.export.passes.uint8_input import Uint8Input
from googlenet_deploy.graph.files import load_model, read_metadata, store_metadata, write_model
from googlenet_deploy.graph.pass_manager import Pass, PassManager
from googlenet_deploy.packaging.triton import TritonRequest, write_triton
from tests.unit.packaging.conftest import NAMES, SPECIFICATION, Classifier, logits_of

pytestmark = [pytest.mark.triton, pytest.mark.slow]

VARIANTS: dict[str, list[Pass]] = {
    "plain": [],
    "int8": [],
    "chances": [AppendSoftmax()],
    "ranked": [AppendTopK(3)],
    "four": [SetBatch(4)],
    "pixels": [Uint8Input(SPECIFICATION)],
    "pixels_ranked": [Uint8Input(SPECIFICATION), AppendTopK(2)],
    "four_ranked": [AppendTopK(3), SetBatch(4)],
}
PARSE = """
import sys
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
for path in sys.argv[1:]:
    config = text_format.Parse(open(path, encoding="utf-8").read(), model_config_pb2.ModelConfig())
    labels = sum(bool(output.label_filename) for output in config.output)
    print(config.name, config.max_batch_size, len(config.output), labels)
"""


@dataclass(frozen=True)
class Served:
    """A server and the bundles that it serves, by variant."""

    triton: Triton
    bundles: dict[str, Path]


@pytest.fixture(scope="module")
def served(classifier: Classifier, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    python = find_triton(repository)
    if python is None:
        pytest.skip("no Triton: run `make triton` (CONTRIBUTING.md)")
    folder = tmp_path_factory.mktemp("served")
    bundles = {}
    for name, passes in VARIANTS.items():
        source = classifier.int8 if name == "int8" else variant(classifier, folder / f"{name}.onnx", passes)
        precision = "int8" if name == "int8" else "fp32"
        bundles[name] = folder / name
        write_triton(bundles[name], TritonRequest(name, {precision: source}, precision, classifier.images, max_batch=8))
    with triton_server(python, [path / "model_repository" for path in bundles.values()], folder) as triton:
        yield Served(triton, bundles)


def variant(classifier: Classifier, path: Path, passes: list[Pass]) -> Path:
    model = load_model(classifier.fp32)
    changed = PassManager().run(model, passes)
    metadata = read_metadata(classifier.fp32, model)
    if any(isinstance(step, Uint8Input) for step in passes):
        from dataclasses import replace

        store_metadata(changed, replace(metadata, preprocessing=SPECIFICATION.with_uint8_input()))
    write_model(path, changed)
    return path


def prepared(classifier: Classifier, name: str, folder: Path) -> list[Path]:
    """The first three images as the variant's network takes them."""
    paths = []
    for index, source in enumerate(classifier.images[:3]):
        image = load_image(source.name)
        pixels = name.startswith("pixels")
        data = crop_pixels(image, SPECIFICATION) if pixels else preprocess(image, SPECIFICATION)
        paths.append(folder / f"{index}.bin")
        paths[-1].write_bytes(np.ascontiguousarray(data).tobytes())
    return paths


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_client_prints_the_classes_of_the_images(
    served: Served, classifier: Classifier, tmp_path: Path, name: str, protocol: str
) -> None:
    arguments: list[str | Path] = ["--url", getattr(served.triton, protocol), "--top", "2"]
    arguments += ["--grpc"] if protocol == "grpc" else []
    files = prepared(classifier, name, tmp_path)
    result = served.triton.run(served.bundles[name] / "client.py", *arguments, *files)
    assert result.returncode == 0, result.stdout + result.stderr
    batch = np.stack([preprocess(load_image(source.name), SPECIFICATION) for source in classifier.images[:3]])
    scores = logits_of(classifier.int8 if name == "int8" else classifier.fp32, batch)
    wanted = np.argsort(-scores, axis=1)[:, :2]
    lines = result.stdout.splitlines()
    assert len(lines) == 3 * 3
    for image in range(3):
        assert lines[3 * image] == str(files[image])
        for rank in range(2):
            score, index, label = lines[3 * image + 1 + rank].split(maxsplit=2)
            assert int(index) == wanted[image, rank]
            assert label == NAMES[wanted[image, rank]]
            if name != "chances":
                assert float(score) == pytest.approx(scores[image, wanted[image, rank]], abs=2e-3)


def test_single_requests_are_batched(served: Served, classifier: Classifier, tmp_path: Path) -> None:
    """Requests of one image at once come to the model in batches; the answers are those of one by one."""
    (file, *_) = prepared(classifier, "plain", tmp_path)
    script = tmp_path / "burst.py"
    script.write_text(
        "import sys, numpy as np, tritonclient.http as triton\n"
        "client = triton.InferenceServerClient(sys.argv[1], concurrency=8)\n"
        "image = np.fromfile(sys.argv[2], np.float32).reshape(1, 3, 64, 64)\n"
        "given = triton.InferInput('input', [1, 3, 64, 64], 'FP32'); given.set_data_from_numpy(image)\n"
        "waiting = [client.async_infer('plain', [given]) for _ in range(64)]\n"
        "values = [item.get_result(timeout=60).as_numpy('logits') for item in waiting]\n"
        "print(max(float(abs(value - values[0]).max()) for value in values))\n"
    )
    inferences, executions = counts(served, "plain")
    for burst in range(1, 11):  # on a busy machine requests may come one by one for a while
        result = served.triton.run(script, served.triton.http, file)
        assert result.returncode == 0, result.stderr
        assert float(result.stdout.split()[-1]) < 1e-4
        asked, run = (now - then for now, then in zip(counts(served, "plain"), (inferences, executions), strict=True))
        assert asked == 64 * burst
        if run < asked:
            return
    pytest.fail("no two requests were put into one batch")


def counts(served: Served, name: str) -> tuple[int, int]:
    """The inferences that a model was asked for, and the executions that they took."""
    (stats,) = json.loads(served.triton.get(f"v2/models/{name}/stats"))["model_stats"]
    return stats["inference_count"], stats["execution_count"]


def test_a_fixed_batch_takes_no_more(served: Served, classifier: Classifier, tmp_path: Path) -> None:
    files = prepared(classifier, "four", tmp_path)
    result = served.triton.run(served.bundles["four"] / "client.py", "--url", served.triton.http, *files, *files)
    assert result.returncode == 2
    assert "takes 4 images at a time" in result.stderr


def test_tritons_published_messages_read_every_configuration(served: Served) -> None:
    paths = [served.bundles[name] / "model_repository" / name / "config.pbtxt" for name in VARIANTS]
    result = served.triton.run("-c", PARSE, *paths)
    assert result.returncode == 0, result.stderr
    read = {line.split()[0]: tuple(map(int, line.split()[1:])) for line in result.stdout.splitlines()}
    assert read == {
        "plain": (8, 1, 1),
        "int8": (8, 1, 1),
        "chances": (8, 1, 1),
        "ranked": (8, 2, 0),
        "four": (0, 1, 1),
        "pixels": (8, 1, 1),
        "pixels_ranked": (8, 2, 0),
        "four_ranked": (0, 2, 0),
    }


def test_the_client_is_plain_python(served: Served) -> None:
    for path in served.bundles.values():
        result = subprocess.run([sys.executable, "-m", "py_compile", path / "client.py"], check=False)
        assert result.returncode == 0
