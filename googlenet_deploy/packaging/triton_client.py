"""``client.py`` of a Triton bundle: a complete example client, over HTTP or gRPC, that prints class names.

It uses NVIDIA's ``tritonclient`` (``InferInput``, ``InferRequestedOutput``, ``classification`` extension: the server
answers ``score:index:label`` for an output with a label file). If the model ends in a TopK, output positions are not
classes, so there are no labels on the server; the client looks the indices up in ``request/class_names.txt``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pprint import pformat

CLIENT = "client.py"
NAMES = "request/class_names.txt"

_TEMPLATE = '''\
#!/usr/bin/env python3
"""Asks a Triton server for the classes of prepared images: pip install 'tritonclient[http,grpc]'

python3 client.py                          the example image, by HTTP
python3 client.py --grpc a.bin b.bin       two images in one request, by gRPC
"""

import argparse
from pathlib import Path

import numpy as np

MODEL = @MODEL@
INPUT, TYPE, SHAPE = @INPUT@  # of one image
FIXED_BATCH = @BATCH@  # 0: the server batches, one image and more may be asked for
OUTPUTS = @OUTPUTS@
TYPES = {"FP32": np.float32, "FP16": np.float16, "UINT8": np.uint8}
HERE = Path(__file__).resolve().parent


def ask(client, module, images, k):
    """The k best classes of each image, as lines."""
    batch = np.stack(images)
    if FIXED_BATCH:  # the rest of the batch is the last image again
        batch = np.concatenate([batch, np.repeat(batch[-1:], FIXED_BATCH - len(batch), axis=0)])
    given = module.InferInput(INPUT, list(batch.shape), TYPE)
    given.set_data_from_numpy(batch)
    ranked = len(OUTPUTS) == 2  # the model ranks the classes itself
    count = 0 if ranked or FIXED_BATCH else k
    outputs = [module.InferRequestedOutput(name, class_count=count) for name in OUTPUTS]
    answer = client.infer(arguments.model, [given], outputs=outputs)
    names = (HERE / "@NAMES@").read_text(encoding="utf-8").splitlines()
    values = [answer.as_numpy(name) for name in OUTPUTS]
    if count:  # "score:index:label" of each class, as bytes
        return [[row.decode("utf-8").split(":", 2) for row in rows] for rows in values[0]][: len(images)]
    if ranked:
        scores, indices = values[0], values[1]
    else:
        flat = values[0].reshape(len(batch), -1)
        indices = np.argsort(-flat, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(flat, indices, 1)
    return [
        [(f"{score:.6f}", str(index), names[index]) for score, index in zip(row, places)]
        for row, places in zip(scores[: len(images), :k], indices[: len(images), :k])
    ]


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("images", nargs="*", help="files with one prepared image each (default: request/image.bin)")
parser.add_argument("--model", default=MODEL)
parser.add_argument("--grpc", action="store_true", help="gRPC instead of HTTP")
parser.add_argument("--url", help="default: localhost:8000, with --grpc localhost:8001")
parser.add_argument("--top", type=int, default=5, help="classes of each image (default: 5)")
arguments = parser.parse_args()
if arguments.grpc:
    import tritonclient.grpc as triton
else:
    import tritonclient.http as triton
server = triton.InferenceServerClient(arguments.url or ("localhost:8001" if arguments.grpc else "localhost:8000"))
files = arguments.images or [str(HERE / "request" / "image.bin")]
if FIXED_BATCH and len(files) > FIXED_BATCH:
    parser.error(f"this model takes {FIXED_BATCH} images at a time")
prepared = [np.fromfile(name, TYPES[TYPE]).reshape(SHAPE) for name in files]
for name, classes in zip(files, ask(server, triton, prepared, arguments.top)):
    print(name)
    for score, index, label in classes:
        print(f"  {float(score):10.4f}  {int(index):4d}  {label}")
'''


def client_script(model: str, image: tuple[str, str, tuple[int, ...]], fixed_batch: int, outputs: Sequence[str]) -> str:
    """The client for one model.

    Args:
        model: Its name on the server.
        image: Name of the input, its Triton type without ``TYPE_``, and the shape of one image.
        fixed_batch: The model's fixed batch; 0 if the server forms batches.
        outputs: The output with a score per class, or the values and the indices of the model's own TopK.
    """
    values = {"MODEL": model, "INPUT": image, "BATCH": fixed_batch, "OUTPUTS": list(outputs)}
    text = _TEMPLATE.replace("@NAMES@", NAMES)
    for key, value in values.items():
        text = text.replace(f"@{key}@", pformat(value, width=100))
    return text
