"""A result as human-readable text."""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence

from googlenet_deploy.device.benchmark.gates import STATISTICS
from googlenet_deploy.device.benchmark.loops import (
    COMPUTE,
    COPY_IN,
    COPY_OUT,
    END_TO_END,
    POSTPROCESS,
    PREPROCESS,
    RUN,
    SCOPES,
)
from googlenet_deploy.device.text import columns, counted, megabytes, number

_LABELS = {
    PREPROCESS: "preprocess",
    COPY_IN: "copy in",
    COPY_OUT: "copy out",
    RUN: "run (copies and network)",
    POSTPROCESS: "postprocess",
    END_TO_END: "end to end",
}


def result_lines(result: Mapping[str, Any]) -> List[str]:
    """The result as text for a terminal."""
    lines = [_title(result), *_images(result)]
    for part in result["configurations"]:
        lines += ["", *_configuration(part, result["backend"]["device"])]
    lines += ["", *_memory(result["memory"]), *_idle(result["idle"]), *_state(result["state"])]
    lines += _trtexec(result)
    return [*lines, *(f"note: {note}" for note in (*result["backend"]["notes"], *result["notes"]))]


def _title(result: Mapping[str, Any]) -> str:
    options = result["options"]
    machine = result["machine"]
    where = ", ".join(text for text in (machine["model"], machine["gpu"] or machine["processor"]) if text)
    return (
        f"{result['model']['path']}: {result['backend']['name']} on {where}; "
        f"{options['rounds']} rounds of at least {options['seconds']:g} s"
    )


def _images(result: Mapping[str, Any]) -> List[str]:
    images = result["images"]
    if images.get("frame"):
        size = " x ".join(map(str, images["frame"]))
        frames = counted(images["count"], "raw frame")
        return [f"{frames} of {size} (height x width) in memory, from {images['kind']} images"]
    if images["kind"] == "synthetic":
        return [f"{counted(images['count'], 'synthetic image')} (seed {images['seed']}); pass real ones with --images"]
    return [f"{counted(images['count'], 'real image')}, {len(images['skipped'])} skipped"]


def _configuration(part: Mapping[str, Any], device: str) -> List[str]:
    warm = part["warm_up"]
    settled = "settled" if warm["settled"] else "NOT settled"
    streams = f"{part['streams']} stream{'s' if part['streams'] > 1 else ''}"
    lines = [f"batch {part['batch']}, {streams}; warm-up {warm['runs']} runs in {warm['seconds']:.1f} s, {settled}"]
    rows: List[Sequence[str]] = [("  milliseconds", *STATISTICS, "std", "runs", "95 % interval of p50")]
    missing: List[str] = []
    for scope in SCOPES:
        found, label = part["milliseconds"][scope], _LABELS.get(scope, f"{device} alone")
        if "not_measured" in found:
            missing.append(f"  {label}: not measured: {found['not_measured']}")
        else:
            rows.append((f"  {label}", *_statistics(found)))
    lines += columns(rows) if len(rows) > 1 else []
    lines += _percentile_remarks(part["milliseconds"][RUN])
    if part["streams"] == 1:
        lines += missing
    lines.append(f"  throughput: {_rate(part['images_per_second'])}")
    if part["end_to_end_images_per_second"]["value"] is not None:
        lines.append(f"  end to end, without overlap: {_rate(part['end_to_end_images_per_second'])}")
    return [*lines, *_energy(part["energy"])]


def _statistics(found: Mapping[str, Any]) -> List[str]:
    values = [found[name]["value"] for name in STATISTICS]
    spread = found["p50"].get("interval_95")
    return [
        *("-" if value is None else number(value) for value in values),
        "-" if found["std"] is None else number(found["std"]),
        str(found["runs"]),
        "-" if not spread else f"{number(spread[0])} to {number(spread[1])}",
    ]


def _percentile_remarks(found: Mapping[str, Any]) -> List[str]:
    remarks = [
        f"{name} {found[name]['not_measured']}" for name in STATISTICS if found.get(name, {}).get("not_measured")
    ]
    return [f"  -: {'; '.join(remarks)}"] if remarks else []


def _rate(figure: Mapping[str, Any]) -> str:
    between = figure.get("interval_95")
    return f"{figure['value']:.1f} images/s" + (f" ({between[0]:.1f} to {between[1]:.1f})" if between else "")


def _energy(energy: Mapping[str, Any]) -> List[str]:
    found = energy[RUN]
    if "not_measured" in found:
        remedy = f" ({found['remedy']})" if found.get("remedy") else ""
        return [f"  power: not measured: {found['not_measured']}{remedy}"]
    value, spread = found["millijoules_per_image"]["value"], found["uncertainty_millijoules_per_image"]
    power = f"{found['watts']:.2f} W, {found['images_per_second_per_watt']:.2f} images/s/W"
    rails = ", ".join(f"{rail['name']} {number(rail['millijoules_per_image'])} mJ" for rail in found["rails"])
    readings = f"{found['readings']} readings, {found['readings_per_second']:.1f} per second"
    lines = [
        f"  energy per image: {number(value)} mJ +- {number(spread)} (coverage factor 2); {power}",
        f"    {found['meter']}, {found['covers']} = {found['total']}; {rails}",
        f"    {readings}, {found['lost_readings']} lost",
        _above_idle(found["above_idle"]),
    ]
    whole = energy[END_TO_END]
    if "not_measured" not in whole:
        lines.append(f"    end to end: {number(whole['millijoules_per_image']['value'])} mJ")
    return [*lines, *(f"    {note}" for note in found["notes"])]


def _above_idle(above: Mapping[str, Any]) -> str:
    if above["value"] is None:
        return f"    above idle: not measured: {above['not_measured']}"
    value, spread = number(above["value"]), number(above["uncertainty"])
    return f"    above idle ({above['idle_watts']:.2f} W): {value} mJ +- {spread}"


def _memory(memory: Mapping[str, Any]) -> List[str]:
    process, device = memory["process"], memory["device"]
    sizes = [megabytes(process[key]) for key in ("resident_before_model", "resident_with_model", "peak")]
    lines = [f"memory of the process: {sizes[0]} before the model, {sizes[1]} with it, peak {sizes[2]}"]
    if "not_measured" in device:
        return [*lines, f"memory of the device: not measured: {device['not_measured']}"]
    sizes = [megabytes(device[f"all_processes_{moment}"]) for moment in ("before_model", "with_model", "after")]
    text = (
        f"memory of the device, all processes: {sizes[0]} before the model, {sizes[1]} with it, {sizes[2]} at the end"
    )
    if device["this_process_after"]:
        text += f", of which this process {megabytes(device['this_process_after'])}"
    return [*lines, text]


def _idle(idle: Mapping[str, Any]) -> List[str]:
    if "not_measured" in idle:
        return []
    return [f"idle power, model loaded: {idle['watts']:.2f} W +- {idle['uncertainty_watts']:.2f}"]


def _state(state: Mapping[str, Any]) -> List[str]:
    before, load, after = state["before"], state["under_load"], state["after"]
    lines = []
    if before["power_mode"]:
        lines.append(f"power mode: {before['power_mode']}")
    for key, label in (("gpu_mhz", "GPU"), ("cpu_mhz", "fastest core")):
        if load[key]:
            found = load[key]
            lines.append(
                f"{label} clock under load: {found['lowest']:.0f} to {found['highest']:.0f} MHz, "
                f"median {found['median']:.0f} MHz"
            )
    clock = before["gpu_clock"]
    if clock and clock["locked"] is False and before["power_mode"]:
        lines.append("the GPU's clock is not locked: runs begin at different clocks (sudo jetson_clocks locks it)")
    for name, hottest in load["hottest_celsius"].items():
        ends = " and ".join(f"{when[name]:.1f}" for when in (_celsius(before), _celsius(after)) if name in when)
        lines.append(f"temperature {name}: {hottest:.1f} at most under load; {ends} before and after")
    slowed = state["throttling"]
    return [*lines, "throttling: " + ("; ".join(slowed) if slowed else "none noticed")]


def _celsius(state: Mapping[str, Any]) -> Mapping[str, float]:
    found: Mapping[str, float] = state["celsius"]
    return found


def _trtexec(result: Mapping[str, Any]) -> List[str]:
    theirs = result["trtexec"]
    if "not_measured" in theirs:
        return [] if result["backend"]["device"] == "CPU" else [f"trtexec: not measured: {theirs['not_measured']}"]
    ours = result["configurations"][0]["milliseconds"][COMPUTE]
    text = f"trtexec: GPU compute median {number(theirs['compute']['p50'])} ms"
    if "not_measured" not in ours:
        text += f", ours {number(ours['p50']['value'])} ms ({ours['p50']['value'] / theirs['compute']['p50']:.3f} x)"
    return [f"{text}; {theirs['queries_per_second']:.1f} batches/s"]
