"""The registry of hosts."""

from __future__ import annotations

import pytest

from googlenet_deploy.device.hosts import HOSTS, find_host, fixed_hosts, host_names
from googlenet_deploy.device.specification import INTERPOLATIONS
from googlenet_deploy.errors import UsageError


def test_every_host_is_found_by_its_name() -> None:
    assert [find_host(name).name for name in host_names()] == host_names() == list(HOSTS)
    assert {"deepstream", "jetson-inference", "opencv"} <= set(HOSTS)
    assert {host.interpolation for host in HOSTS.values()} <= set(INTERPOLATIONS)


def test_jetson_inference_normalises_by_imagenets_figures() -> None:
    normalization = find_host("jetson-inference").normalization
    assert normalization is not None
    white = [
        (255 * normalization.scale - mean) / std
        for mean, std in zip(normalization.mean, normalization.std, strict=True)
    ]
    assert white == pytest.approx([2.2489, 2.4286, 2.6400], abs=1e-4)
    assert fixed_hosts() == ["jetson-inference"]


def test_an_unknown_host_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown host 'toaster'") as caught:
        find_host("toaster")
    assert "jetson-inference" in (caught.value.remedy or "")
