"""The layer names of BVLC's Caffe model, mapped to the modules of our model."""

from __future__ import annotations

from googlenet_deploy.model.architecture import INCEPTION_WIDTHS

_BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_proj": "branch4.1",
}


def caffe_layers() -> dict[str, str]:
    """Caffe's layer names (bvlc_googlenet/train_val.prototxt) to the module that holds the same weights.

    The two auxiliary classifiers, ``loss1`` and ``loss2``, are included; a deployed file lacks them.
    """
    layers = {
        "conv1/7x7_s2": "conv1.conv",
        "conv2/3x3_reduce": "conv2.conv",
        "conv2/3x3": "conv3.conv",
        "loss3/classifier": "fc",
    }
    for ours in INCEPTION_WIDTHS:
        theirs = ours.replace("inception", "inception_")
        layers.update({f"{theirs}/{layer}": f"{ours}.{branch}.conv" for layer, branch in _BRANCHES.items()})
    for loss, auxiliary in (("loss1", "aux1"), ("loss2", "aux2")):
        layers[f"{loss}/conv"] = f"{auxiliary}.conv.conv"
        layers[f"{loss}/fc"] = f"{auxiliary}.fc1"
        layers[f"{loss}/classifier"] = f"{auxiliary}.fc2"
    return layers


def is_caffe_named(names: set[str]) -> bool:
    """Whether tensor names are those of Caffe's layers with ``.weight`` and ``.bias``."""
    return "conv1/7x7_s2.weight" in names


def from_caffe_name(name: str) -> str | None:
    """``inception_3a/1x1.weight`` to ``inception3a.branch1.conv.weight``; None for a layer that our model lacks."""
    layer, _, parameter = name.rpartition(".")
    module = caffe_layers().get(layer)
    return f"{module}.{parameter}" if module is not None else None
