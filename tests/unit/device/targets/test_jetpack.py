from __future__ import annotations

from googlenet_deploy.device.targets.jetpack import (
    RELEASES,
    full_tensorrt_version,
    jetpack_lines,
    release_of_l4t,
    tensorrt_of_jetpack,
)
from googlenet_deploy.device.targets.target import load_target, target_names


def test_every_release_has_one_row_and_they_ascend() -> None:
    versions = [release.version for release in RELEASES]
    assert len(set(versions)) == len(versions)
    assert [release.line for release in RELEASES] == sorted(release.line for release in RELEASES)
    assert [release.tensorrt for release in RELEASES] == sorted(release.tensorrt for release in RELEASES)


def test_every_profiles_jetpacks_are_in_the_table() -> None:
    lines = {"{}.{}".format(*line) for line in jetpack_lines()}
    modules = [load_target(name).module for name in target_names()]
    assert all(set(module.jetpacks) <= lines for module in modules if module is not None)


def test_tensorrt_by_jetpack() -> None:
    assert tensorrt_of_jetpack((4, 5)) is None  # TensorRT 7
    assert tensorrt_of_jetpack((4, 6)) == (8, 2)
    assert tensorrt_of_jetpack((5, 0, 2)) == (8, 4)
    assert tensorrt_of_jetpack((6, 9)) is None


def test_full_versions_of_tensorrt() -> None:
    assert [full_tensorrt_version(version) for version in ((8, 2), (8, 5), (10, 3), (10, 16), (11, 0))] == [
        "8.2.1", "8.5.2", "10.3.0", "10.16.2", "11.0.0",
    ]  # fmt: skip


def test_odd_texts_of_l4t() -> None:
    for text in ("", "36", "36.x", "36.4.3.1", "-36.4", "9" * 40 + ".1.1"):
        assert release_of_l4t(text) is None
    found = release_of_l4t("36.2")
    assert found is not None
    assert found.version == "6.0 DP"
