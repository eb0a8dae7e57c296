"""Every error and warning that the toolkit raises on purpose.

    GoogLeNetDeployError          exit status 1
    ├── UsageError                exit status 2: the command line or configuration is wrong
    ├── GateError                 exit status 3: the work is done, but a gate set by the user failed
    ├── MissingExtraError         a package that this step needs is not installed
    ├── InputError                a file that was read is missing, damaged or of the wrong kind
    │   ├── BadImageError         an image
    │   ├── BadModelError         an ONNX model or an engine
    │   ├── BadWeightsError       a checkpoint
    │   ├── BadTableError         a calibration table or cache
    │   └── BadBundleError        a bundle
    ├── OutputError               a file could not be written
    ├── DownloadError             published weights could not be fetched
    ├── VerificationError         a result differs from the original that it must equal
    └── DeviceError               GPU, driver, TensorRT or power meter

A message states what failed and names the file; `remedy` states how to fix it. The command line prints
both and no traceback. This file runs on Python 3.8 and imports nothing outside the standard library.
"""

from __future__ import annotations

import copyreg
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional, Tuple, Union

# The package for each extra that the device part uses, for when that part is deployed alone.
_PACKAGES = {
    "cuda": "cuda-bindings",
    "opencv": "opencv-python-headless",
    "openvino": "openvino",
    "pycuda": "pycuda",
    "rtx": "tensorrt-rtx-cu13",
    "runtime": "onnxruntime",
    "tensorrt": "tensorrt-cu13",
}

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def install_command(extra: str) -> str:
    """The command that installs an extra; inside ``googlenet-device.pyz``, which has no extras, its package."""
    if Path(__file__).is_file():
        return f"pip install 'googlenet-deploy[{extra}]'"
    if extra in _PACKAGES:
        return f"pip install {_PACKAGES[extra]}"
    return "this is done on a workstation, with the whole of googlenet-deploy"


class GoogLeNetDeployError(Exception):
    """Base of all errors.

    Args:
        message: One line that states what failed, with the file's name if there is one.
        remedy: One line that states how to fix it.
    """

    exit_status = 1

    def __init__(self, message: str, remedy: Optional[str] = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> Tuple[object, ...]:
        """Makes errors picklable between processes, whatever their constructor's arguments."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class UsageError(GoogLeNetDeployError):
    """Options that contradict each other or name something that does not exist."""

    exit_status = 2


class GateError(GoogLeNetDeployError):
    """The work is done and stored, but a gate set by the user failed."""

    exit_status = 3


class MissingExtraError(GoogLeNetDeployError, ImportError):
    """A package that this step needs is not installed.

    Args:
        module: The module that could not be imported.
        extra: The extra of googlenet-deploy that installs it.
    """

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f"this step needs the Python package '{module}', which is not installed",
            install_command(extra),
        )
        self.extra = extra


class _FileError(GoogLeNetDeployError):
    def __init__(self, path: Union[str, os.PathLike[str]], problem: str, remedy: Optional[str] = None) -> None:
        super().__init__(f"{path}: {problem}", remedy)
        self.path = str(path)
        self.problem = problem


def _is_lfs_pointer(path: Union[str, os.PathLike[str]]) -> bool:
    """Checks for the first line of a pointer file (github.com/git-lfs/git-lfs, docs/spec.md)."""
    try:
        if not Path(path).is_file():  # a pipe must not be read from
            return False
        with Path(path).open("rb") as stream:
            return stream.read(len(_LFS_POINTER)) == _LFS_POINTER
    except (OSError, ValueError):
        return False


class InputError(_FileError):
    """A file that was read is missing, damaged or of the wrong kind.

    A Git LFS pointer in place of the file is reported as such, whatever the reader's error.
    """

    def __init__(self, path: Union[str, os.PathLike[str]], problem: str, remedy: Optional[str] = None) -> None:
        if _is_lfs_pointer(path):
            problem, remedy = "is a Git LFS pointer, not the file itself", "fetch it: git lfs install && git lfs pull"
        super().__init__(path, problem, remedy)


class BadImageError(InputError):
    """An image that cannot be decoded, or that is larger than the limit."""


class BadModelError(InputError):
    """An ONNX model or engine that is damaged or does not fit the request."""


class BadWeightsError(InputError):
    """A checkpoint that is damaged or does not fit the architecture."""


class BadTableError(InputError):
    """A calibration table or cache that is damaged or belongs to another model."""


class BadBundleError(InputError):
    """A bundle that is incomplete, altered, or of a newer version."""


class OutputError(_FileError):
    """A file could not be written; an existing file is left unchanged."""


class DownloadError(GoogLeNetDeployError):
    """Published weights could not be fetched, or are not what was published."""


class VerificationError(GoogLeNetDeployError):
    """A result differs from the original that it must equal."""


class DeviceError(GoogLeNetDeployError):
    """A GPU, driver, TensorRT or power meter is missing or failed."""


class GoogLeNetDeployWarning(UserWarning):
    """Base of all warnings that the toolkit itself emits."""


@contextmanager
def requires(extra: str) -> Iterator[None]:
    """Turns a failed import inside the block into one clear error that names the install command.

    Leaf modules wrap their heavy imports in it, so a missing package never shows as a traceback::

        with requires("export"):
            import onnx

    Raises:
        MissingExtraError: A package in the block is not installed.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ImportError as error:
        raise MissingExtraError((error.name or str(error)).partition(".")[0], extra) from error


def first_line(error: Union[BaseException, str]) -> str:
    """The first non-empty line of an error's message, without surrounding blanks; else the error's class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
