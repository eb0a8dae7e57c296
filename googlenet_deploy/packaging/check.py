"""Verifying and unpacking bundles of either form."""

from __future__ import annotations

from pathlib import Path

from googlenet_deploy.device.bundle.manifest import BundleManifest, verify_folder
from googlenet_deploy.device.files import PathLike
from googlenet_deploy.errors import InputError
from googlenet_deploy.packaging.archive import unpack_archive, verify_archive
from googlenet_deploy.packaging.content import new_folder


def verify_bundle(path: PathLike) -> BundleManifest:
    """Finds any altered, missing or additional file of a bundle, packed or unpacked.

    Raises:
        BadBundleError: There is one, the bundle is of a newer version, or is none.
        InputError: Nothing is there.
    """
    place = Path(path)
    if not place.exists():
        raise InputError(path, "no such file or folder")
    return verify_folder(place) if place.is_dir() else verify_archive(place)


def unpack_bundle(path: PathLike, folder: PathLike) -> BundleManifest:
    """Verifies a packed bundle and unpacks it; the folder appears whole or not at all.

    Raises:
        BadBundleError: See `verify_bundle`.
        OutputError: The folder cannot be written, or something else stands there.
    """
    if not Path(path).exists():
        raise InputError(path, "no such file or folder")
    with new_folder(folder) as temporary:
        return unpack_archive(path, temporary)
