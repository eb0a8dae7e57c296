"""Checkpoints that would run code where Python's pickle is used: none does, and each is refused in one line.

Every file holds another way to reach code: each opcode that imports or calls, in each protocol, bare, in the ZIP form
of `torch.save`, in its older forms, and behind names that look harmless. What they would do is create one file.
"""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from googlenet_deploy.cli.main import main
from googlenet_deploy.errors import BadWeightsError
from googlenet_deploy.model.weights import load_weights

# (module, name, arguments by opcodes that leave a tuple on the stack); CANARY stands for the file's path.
CALLS: tuple[tuple[str, str, str], ...] = (
    ("os", "system", "touch CANARY"),
    ("posix", "system", "touch CANARY"),
    ("subprocess", "getoutput", "touch CANARY"),
    ("subprocess", "check_output", "touch CANARY"),
    ("builtins", "eval", "open('CANARY', 'w')"),
    ("builtins", "exec", "open('CANARY', 'w')"),
    ("__builtin__", "eval", "open('CANARY', 'w')"),
    ("os", "mkdir", "CANARY"),
    ("pathlib", "Path.touch", "CANARY"),
    ("torch.serialization", "os.mkdir", "CANARY"),
    ("torch", "_dynamo.utils.os.mkdir", "CANARY"),
    ("timeit", "timeit", "open('CANARY', 'w')"),
    ("code", "InteractiveInterpreter.runcode", "CANARY"),
    ("runpy", "run_path", "CANARY"),
    ("webbrowser", "open", "file://CANARY"),
    ("shutil", "copytree", "CANARY"),
    ("numpy", "load", "CANARY"),
    ("torch", "load", "CANARY"),
    ("torch.hub", "load", "CANARY"),
    ("pickle", "loads", "CANARY"),
)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def by_reduce(module: str, name: str, argument: str) -> bytes:
    return b"\x80\x02" + f"c{module}\n{name}\n".encode() + text(argument) + b"\x85R."


def by_stack_global(module: str, name: str, argument: str) -> bytes:
    return b"\x80\x04" + text(module) + text(name) + b"\x93" + text(argument) + b"\x85R."


def by_inst(module: str, name: str, argument: str) -> bytes:
    return b"(" + f"S{argument!r}\n".encode() + f"i{module}\n{name}\n.".encode()


def by_obj(module: str, name: str, argument: str) -> bytes:
    return b"(" + f"c{module}\n{name}\n".encode() + f"S{argument!r}\no.".encode()


def by_newobj(module: str, name: str, argument: str) -> bytes:
    return b"\x80\x02" + f"c{module}\n{name}\n".encode() + text(argument) + b"\x85\x81."


def by_newobj_ex(module: str, name: str, argument: str) -> bytes:
    return b"\x80\x04" + f"c{module}\n{name}\n".encode() + text(argument) + b"\x85}\x92."


def by_build(module: str, name: str, argument: str) -> bytes:
    """Calls through ``__setstate__`` of an object whose class it chooses."""
    call = f"c{module}\n{name}\n".encode()
    return b"\x80\x02ccollections\nOrderedDict\n)R}" + text("__setstate__") + call + b"s" + text(argument) + b"b."


def inside_a_dictionary(module: str, name: str, argument: str) -> bytes:
    return b"\x80\x02}" + text("conv1.conv.weight") + by_reduce(module, name, argument)[2:-1] + b"s."


FORMS: tuple[Callable[[str, str, str], bytes], ...] = (
    by_reduce, by_stack_global, by_inst, by_obj, by_newobj, by_newobj_ex, by_build, inside_a_dictionary,
)  # fmt: skip


def bare(data: bytes) -> bytes:
    return data


def zipped(data: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return content.getvalue()


def torchscript(data: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in ("data.pkl", "constants.pkl"):
            archive.writestr(f"archive/{name}", data)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/code/__torch__.py", "import os\n")
    return content.getvalue()


def legacy(data: bytes) -> bytes:
    """The form before PyTorch 1.6: magic number, protocol and system as pickles, then the object."""
    magic = pickle.dumps(torch.serialization.MAGIC_NUMBER, 2)
    return magic + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + data


def tarred(data: bytes) -> bytes:
    """The form before PyTorch 0.1.10."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


CONTAINERS: tuple[Callable[[bytes], bytes], ...] = (bare, zipped, torchscript, legacy, tarred)


def files() -> Iterator[tuple[str, Callable[[str], bytes]]]:
    """Each call once in a form and container of its own turn, and each form in each container: 60 files."""
    for index, (module, name, argument) in enumerate(CALLS):
        yield from [one_file(FORMS[index % len(FORMS)], CONTAINERS[index % len(CONTAINERS)], module, name, argument)]
    for form in FORMS:
        for container in CONTAINERS:
            yield one_file(form, container, "os", "mkdir", "CANARY")


def one_file(
    form: Callable[[str, str, str], bytes], container: Callable[[bytes], bytes], module: str, name: str, argument: str
) -> tuple[str, Callable[[str], bytes]]:
    label = f"{form.__name__}-{container.__name__}-{module}.{name}"
    return label, lambda canary: container(form(module, name, argument.replace("CANARY", canary)))


FILES = dict(files())


def test_there_are_enough_of_them() -> None:
    assert len(FILES) >= 40


def test_the_canary_works(tmp_path: Path) -> None:
    """Under pickle itself the commonest of them do run, so that the test can fail."""
    for form in (by_reduce, by_stack_global, by_inst, by_obj):
        canary = tmp_path / form.__name__
        pickle.loads(form("os", "mkdir", str(canary)))
        assert canary.is_dir()


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("label", FILES)
def test_no_code_is_run(tmp_path: Path, label: str, suffix: str) -> None:
    canary, path = tmp_path / "canary", tmp_path / f"weights{suffix}"
    path.write_bytes(FILES[label](str(canary)))
    with pytest.raises(BadWeightsError, match=rf"weights\{suffix}: ") as caught:
        load_weights(path)
    assert not canary.exists()
    assert "\n" not in caught.value.message


def test_the_command_line_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    canary, path = tmp_path / "canary", tmp_path / "weights.pth"
    path.write_bytes(zipped(by_reduce("os", "system", f"touch {canary}")))
    assert main(["export", "--weights", str(path), "--output", str(tmp_path / "m.onnx")]) == 1
    assert "weights.pth" in capsys.readouterr().err
    assert not canary.exists()
    assert not (tmp_path / "m.onnx").exists()
