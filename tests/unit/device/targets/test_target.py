from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from googlenet_deploy.device.resources import read_resource
from googlenet_deploy.device.targets.target import RTX, largest_opset, load_target, target_names
from googlenet_deploy.device.targets.toml_subset import parse_toml
from googlenet_deploy.errors import UsageError

tomllib = pytest.importorskip("tomllib")  # Python 3.11

MODULES = {  # the reference table of Jetson modules: compute capability, INT8, DLA cores
    "nano": ((5, 3), False, 0),
    "tx1": ((5, 3), False, 0),
    "tx2": ((6, 2), False, 0),
    "xavier-nx": ((7, 2), True, 2),
    "agx-xavier": ((7, 2), True, 2),
    "orin-nano": ((8, 7), True, 0),
    "orin-nano-4gb": ((8, 7), True, 0),
    "orin-nx-8gb": ((8, 7), True, 1),
    "orin-nx-16gb": ((8, 7), True, 2),
    "agx-orin": ((8, 7), True, 2),
    "agx-orin-32gb": ((8, 7), True, 2),
    "thor": ((11, 0), True, 0),
}


def test_every_module_has_a_profile() -> None:
    assert target_names() == sorted(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_profile(name: str) -> None:
    target = load_target(name)
    module = target.module
    assert module is not None
    capability, int8, dla = MODULES[name]
    assert (module.compute_capability, target.has_int8, module.dla_cores) == (capability, int8, dla)
    assert module.sources
    assert all(module.bandwidth(mode) for mode in module.power_modes)
    assert all(module.peak("fp16", mode) for mode in module.power_modes)


@pytest.mark.parametrize("name", MODULES)
def test_our_reader_and_pythons_agree(name: str) -> None:
    text = read_resource(f"targets/{name}.toml")
    assert parse_toml(text) == tomllib.loads(text)


def test_smaller_modules_have_fewer_multiprocessors() -> None:
    """NVIDIA: 108 sparse INT8 TOPS of AGX Orin 32 GB's GPU and 34 of Orin Nano 4 GB's, half of that dense."""
    agx, nano = (load_target(name).module for name in ("agx-orin-32gb", "orin-nano-4gb"))
    assert agx is not None
    assert nano is not None
    assert agx.peak("int8", agx.power_modes[-1]) == pytest.approx(108e12 / 2, rel=0.02)
    assert nano.peak("int8", nano.power_modes[-1]) == pytest.approx(34e12 / 2, rel=0.03)
    assert nano.bandwidth(nano.power_modes[-1]) == pytest.approx(51.2e9, rel=0.01)


def test_peak_rates_match_what_is_published() -> None:
    agx, nano, xavier = (load_target(name).module for name in ("agx-orin", "nano", "agx-xavier"))
    assert agx is not None
    assert nano is not None
    assert xavier is not None
    full = next(mode for mode in agx.power_modes if mode.name == "MAXN")
    # NVIDIA: 171 sparse INT8 TOPS on AGX Orin's GPU, 204.8 GB/s; 472 GFLOPS FP16 and 25.6 GB/s on Nano.
    assert agx.peak("int8", full) == pytest.approx(171e12 / 2, rel=0.01)
    assert agx.bandwidth(full) == pytest.approx(204.8e9, rel=0.001)
    assert nano.peak("fp16", nano.power_modes[0]) == pytest.approx(472e9, rel=0.001)
    assert nano.bandwidth(nano.power_modes[0]) == pytest.approx(25.6e9)
    # NVIDIA: 11 TFLOPS FP16 and 22 TOPS INT8 on AGX Xavier's GPU, rounded down.
    for kind, published in (("fp16", 11e12), ("int8", 22e12)):
        assert xavier.peak(kind, xavier.power_modes[0]) == pytest.approx(published, rel=0.03)


@pytest.mark.parametrize(
    ("name", "tensorrt", "opset"),
    [
        ("jetpack-4.6", (8, 2), 13),
        ("jetpack-4.6.1", (8, 2), 13),
        ("jetpack-5.0.2", (8, 4), 17),
        ("jetpack-6.2.99", (10, 3), 20),
        ("JetPack-5.1.2", (8, 5), 17),
        ("jetpack-6.2.1", (10, 3), 20),
        ("tensorrt-8.5", (8, 5), 17),
        ("tensorrt-10.16.2", (10, 16), 24),
        ("tensorrt-11", (11, 0), 24),
    ],
)
def test_software_targets(name: str, tensorrt: tuple[int, int], opset: int) -> None:
    target = load_target(name)
    assert target.tensorrt == (tensorrt,)
    assert target.largest_opset == opset
    assert target.has_int8 is None


def test_rtx_has_no_tensorrt_version() -> None:
    assert load_target(RTX).rtx


@pytest.mark.parametrize(
    "name",
    [
        "", "jetson", "jetpack-9.9", "jetpack-4.5", "jetpack-5", "jetpack-6.x", "jetpack--5.1", "tensorrt-7.2",
        "tensorrt-12", "tensorrt-", "tensorrt-8.5 --x", "orin", "../nano",
    ],
)  # fmt: skip
def test_unknown_target(name: str) -> None:
    with pytest.raises(UsageError, match="unknown target") as caught:
        load_target(name)
    assert "orin-nano" in (caught.value.remedy or "")


def test_undocumented_versions_read_what_the_one_before_reads() -> None:
    assert largest_opset((10, 7)) == largest_opset((10, 0)) == 20


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a = ",
        "a = 1 2",
        "a = 1\na = 2",
        "[t]\n[t]",
        "a.b = 1",
        "[[a]\nb = 1",
        "a = [1",
        'a = "x',
        "a = 0x10",
        "a = 01",
    ],
)
def test_what_the_reader_does_not_know_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line"):
        parse_toml(text)


KEYS = st.text("abcdefghij_-", min_size=1, max_size=6)
VALUES = st.one_of(
    st.integers(-(10**9), 10**9),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
)


def write(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(write, value)) + "]"
    return repr(value)


@given(st.dictionaries(KEYS, st.one_of(VALUES, st.lists(VALUES, max_size=4)), max_size=6))
def test_whatever_is_written_is_read_as_pythons_reader_reads_it(values: dict[str, object]) -> None:
    text = "\n".join(f"{key} = {write(value)} # comment" for key, value in values.items())
    assert parse_toml(text) == tomllib.loads(text) == values
