from __future__ import annotations

from typing import Any

from googlenet_deploy.device.benchmark.table import result_lines
from googlenet_deploy.device.text import columns, megabytes, number

GOLDEN = """\
model.engine: TensorRT 10.3.0 (Orin, cuda-bindings) on NVIDIA Jetson Orin Nano Developer Kit, ARMv8; 3 rounds of at \
least 2 s
32 real images, 1 skipped

batch 1, 1 stream; warm-up 300 runs in 1.2 s, settled
  milliseconds               mean    p50    p90    p95    p99  p99.9    std  runs  95 % interval of p50
  preprocess                4.000  4.000  4.000  4.000  4.000      -  0.100   500                     -
  copy in                   4.000  4.000  4.000  4.000  4.000      -  0.100   500                     -
  GPU alone                 4.000  4.000  4.000  4.000  4.000      -  0.100   500                     -
  copy out                  4.000  4.000  4.000  4.000  4.000      -  0.100   500                     -
  run (copies and network)  4.000  4.000  4.000  4.000  4.000      -  0.100   500                     -
  postprocess               4.000  4.000  4.000  4.000  4.000      -  0.100   500                     -
  end to end                4.000  4.000  4.000  4.000  4.000      -  0.100   500                     -
  -: p99.9 needs 1000 runs, there were 500
  throughput: 250.0 images/s
  end to end, without overlap: 250.0 images/s
  energy per image: 48.00 mJ +- 1.200 (coverage factor 2); 12.00 W, 20.80 images/s/W
    INA3221 over sysfs, module = VDD_IN; VDD_IN 48.00 mJ
    300 readings, 50.0 per second, 0 lost
    above idle (4.50 W): 32.00 mJ +- 0.900
    end to end: 48.00 mJ
    a note of the meter

memory of the process: 60.0 MB before the model, 300.0 MB with it, peak 320.0 MB
memory of the device, all processes: 2000.0 MB before the model, 2300.0 MB with it, 2310.0 MB at the end
idle power, model loaded: 4.50 W +- 0.10
power mode: 15W
GPU clock under load: 918 to 1020 MHz, median 1020 MHz
fastest core clock under load: 1500 to 1728 MHz, median 1510 MHz
the GPU's clock is not locked: runs begin at different clocks (sudo jetson_clocks locks it)
temperature tj: 61.5 at most under load; 50.0 and 58.0 before and after
throttling: none noticed
trtexec: GPU compute median 3.900 ms, ours 4.000 ms (1.026 x); 260.0 batches/s
note: a note
note: a note of the benchmark
"""


def test_a_full_result(make_result: Any) -> None:
    assert "\n".join(result_lines(make_result())) + "\n" == GOLDEN


def test_what_was_not_measured_is_told_with_its_reason(make_result: Any) -> None:
    result = make_result()
    result["backend"] = {"name": "ONNX Runtime 1.32.0 (CPU)", "device": "CPU", "notes": []}
    result["images"] = {**result["images"], "kind": "synthetic", "seed": 7}
    result["idle"] = {"not_measured": "there is no meter"}
    result["memory"]["device"] = {"not_measured": "the model runs on the CPU"}
    result["trtexec"] = {"not_measured": "trtexec runs TensorRT engines only"}
    result["state"]["throttling"] = ["power cap", "heat"]
    part = result["configurations"][0]
    part["warm_up"]["settled"] = False
    part["milliseconds"]["copy_in"] = {"not_measured": "a CPU copies nothing"}
    part["energy"]["run"] = {"not_measured": "there is no meter", "remedy": "buy one"}
    lines = result_lines(result)
    assert "32 synthetic images (seed 7); pass real ones with --images" in lines
    assert "  copy in: not measured: a CPU copies nothing" in lines
    assert "  power: not measured: there is no meter (buy one)" in lines
    assert "memory of the device: not measured: the model runs on the CPU" in lines
    assert "throttling: power cap; heat" in lines
    assert lines[3].endswith("NOT settled")
    assert not any("trtexec" in line or "idle power" in line for line in lines)
    assert any(line.startswith("  CPU alone") for line in lines)


def test_an_engine_without_trtexec_says_so(make_result: Any) -> None:
    lines = result_lines(make_result(trtexec={"not_measured": "trtexec is not installed"}))
    assert "trtexec: not measured: trtexec is not installed" in lines


def test_several_streams_name_only_what_they_have(make_result: Any) -> None:
    result = make_result()
    part = result["configurations"][0]
    part["streams"] = 4
    for name in part["milliseconds"]:
        if name != "run":
            part["milliseconds"][name] = {"not_measured": "measured with one stream only"}
    part["images_per_second"]["interval_95"] = [240.0, 260.0]
    part["end_to_end_images_per_second"] = {"value": None, "not_measured": "measured with one stream only"}
    part["energy"]["run"]["above_idle"] = {"value": None, "not_measured": "idle power: it died"}
    part["energy"]["end_to_end"] = {"not_measured": "measured with one stream only"}
    result["trtexec"]["compute"]["p50"] = 3.9
    text = "\n".join(result_lines(result))
    assert "batch 1, 4 streams" in text
    assert "throughput: 250.0 images/s (240.0 to 260.0)" in text
    assert "one stream only" not in text
    assert "above idle: not measured: idle power: it died" in text
    assert "trtexec: GPU compute median 3.900 ms; 260.0 batches/s" in text


def test_memory_that_nvml_counts_for_this_process(make_result: Any) -> None:
    result = make_result()
    result["memory"]["device"]["this_process_after"] = 150_000_000
    assert any(line.endswith("of which this process 150.0 MB") for line in result_lines(result))


def test_numbers_keep_four_digits() -> None:
    values = [0.0, 0.00012, 0.0123, 1.23456, 12.3456, 123.456, 1234.56, -5.0]
    assert list(map(number, values)) == ["0.000", "0.00012", "0.012", "1.235", "12.35", "123.5", "1235", "-5.000"]
    assert megabytes(None) == "?"
    assert columns([]) == []
    assert columns([("a", "1"), ("bb", "22")]) == ["a    1", "bb  22"]
