from __future__ import annotations

from typing import Any

import pytest

from googlenet_deploy.device.benchmark.gates import broken_gates, parse_gates
from googlenet_deploy.errors import UsageError


@pytest.mark.parametrize(
    ("text", "limit", "scope", "statistic"),
    [
        ("p99=5ms", 5.0, "run", "p99"),
        ("p99.9=5ms", 5.0, "run", "p99.9"),
        ("mean=250us", 0.25, "run", "mean"),
        ("p50=0.5s", 500.0, "run", "p50"),
        ("end_to_end.p50=8 ms", 8.0, "end_to_end", "p50"),
        ("compute.p99.9=3ms", 3.0, "compute", "p99.9"),
        ("preprocess.mean=3ms", 3.0, "preprocess", "mean"),
        ("throughput=200/s", 200.0, "", ""),
        ("end_to_end_throughput=12.5images/s", 12.5, "", ""),
        ("energy=20mJ", 20.0, "", ""),
        ("energy_above_idle=0.02J", 20.0, "", ""),
        ("energy=300uJ", 0.3, "", ""),
        ("memory=500MB", 5e8, "", ""),
        ("memory=1GiB", 2.0**30, "", ""),
    ],
)
def test_names_and_units(text: str, limit: float, scope: str, statistic: str) -> None:
    (gate,) = parse_gates(text)
    assert (gate.limit, gate.scope, gate.statistic) == (pytest.approx(limit), scope, statistic)


def test_several_at_once() -> None:
    assert [gate.name for gate in parse_gates("p99=5ms, energy=20mJ,memory=1GB")] == ["p99", "energy", "memory"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p99",
        "p99=5",
        "p99=ms",
        "p99=-5ms",
        "p99=5ms,",
        "p99=5m",
        "p99=5MS",
        "p99=1e3ms",
        "p99=nanms",
        "p98=5ms",
        "p=5ms",
        "latency=5ms",
        "gpu.p99=5ms",
        "run.p98=5ms",
        "run=5ms",
        "energy=20mW",
        "energy=20",
        "energy=20ms",
        "throughput=20ms",
        "throughput=20fps",
        "memory=20Mb",
        "memory.p50=20MB",
    ],
)
def test_what_is_not_quite_right_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--require"):
        parse_gates(text)


@pytest.mark.parametrize(
    "text",
    [
        "p99=4ms,compute.p50=4.0ms,throughput=250/s,end_to_end_throughput=250/s",
        "energy=48mJ,energy_above_idle=32mJ,memory=320MB",
    ],
)
def test_gates_that_hold_just_so(text: str, make_result: Any) -> None:
    assert broken_gates(parse_gates(text), make_result()) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("p99=3999us", "p99 is 4.000 ms, required is 3999us"),
        ("end_to_end.mean=3ms", "end_to_end.mean is 4.000 ms, required is 3ms"),
        ("throughput=251/s", "throughput is 250.0 images/s, required is 251/s"),
        ("energy=47mJ", "energy is 48.000 mJ, required is 47mJ"),
        ("energy_above_idle=31mJ", "energy_above_idle is 32.000 mJ, required is 31mJ"),
        ("memory=319MB", "memory is 320.0 MB, required is 319MB"),
        ("p99.9=1s", "p99.9=1s is required, but was not measured: needs 1000 runs, there were 500"),
    ],
)
def test_gates_that_do_not_hold(text: str, sentence: str, make_result: Any) -> None:
    assert broken_gates(parse_gates(text), make_result()) == [sentence]


def test_every_broken_gate_is_told(make_result: Any) -> None:
    assert len(broken_gates(parse_gates("p50=1ms,p99=5ms,energy=1mJ"), make_result())) == 2


def test_what_was_not_measured_holds_no_gate(make_result: Any) -> None:
    result = make_result()
    result["configurations"][0]["energy"]["run"] = {"not_measured": "there is no meter"}
    result["configurations"][0]["milliseconds"]["copy_in"] = {"not_measured": "a CPU copies nothing"}
    result["memory"]["process"]["peak"] = None
    assert broken_gates(parse_gates("energy=9J,energy_above_idle=9J,copy_in.p50=9s,memory=9GB"), result) == [
        "energy=9J is required, but was not measured: there is no meter",
        "energy_above_idle=9J is required, but was not measured: there is no meter",
        "copy_in.p50=9s is required, but was not measured: a CPU copies nothing",
        "memory=9GB is required, but was not measured: the system does not report it",
    ]
