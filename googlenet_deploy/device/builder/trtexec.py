"""The trtexec command that builds the same engine, with the options of each version.

Option names are those of ``trtexec --help``: ``--workspace`` (MiB) until 8.3 and ``--memPoolSize`` from 8.4 on,
``--explicitBatch`` implied by ONNX, ``--fp16``/``--int8`` until 10, ``--stronglyTyped`` from 9 to 10.
"""

from __future__ import annotations

import shlex
from typing import List

from googlenet_deploy.device.builder.options import BuildOptions
from googlenet_deploy.device.builder.plan import BuildPlan, Site
from googlenet_deploy.device.onnx_model.header import OnnxHeader


def trtexec_command(
    header: OnnxHeader, model: str, output: str, options: BuildOptions, plan: BuildPlan, site: Site
) -> str:
    """One line for a POSIX shell.

    Args:
        header: The model.
        model: Its file.
        output: Path of the engine.
        options: The user's options.
        plan: The plan.
        site: The site, whose version decides the options' names.
    """
    words = ["tensorrt_rtx" if site.rtx else "trtexec", f"--onnx={model}", f"--saveEngine={output}", "--skipInference"]
    if site.version < (8, 6) and not site.rtx:
        words[-1] = "--buildOnly"
    words += _types(header, options, plan, site)
    words += _shapes(header, options)
    words += _limits(options, site)
    words += _features(options)
    return " ".join(shlex.quote(word) for word in words)


def _types(header: OnnxHeader, options: BuildOptions, plan: BuildPlan, site: Site) -> List[str]:
    if plan.strongly_typed:
        return [] if site.strong_only else ["--stronglyTyped"]
    words = [f"--{flag.lower()}" for flag in plan.flags]
    if plan.calibration == "cache":
        words.append(f"--calib={options.calibration_cache}")
    kept = [node.name for node in header.nodes if node.name and {node.name, node.operator} & set(plan.keep_fp32)]
    if kept:
        words += ["--precisionConstraints=prefer", "--layerPrecisions=" + ",".join(f"{name}:fp32" for name in kept)]
    return words


def _shapes(header: OnnxHeader, options: BuildOptions) -> List[str]:
    if not header.dynamic_batch:
        return []
    value = header.inputs[0]
    rest = "x".join(str(size) for size in value.shape[1:])
    sizes = options.batch or (1, 1, 1)
    return [f"--{word}Shapes={value.name}:{size}x{rest}" for word, size in zip(("min", "opt", "max"), sizes)]


def _limits(options: BuildOptions, site: Site) -> List[str]:
    words = []
    if options.workspace_bytes is not None:
        mebibytes = max(1, options.workspace_bytes // 2**20)
        words.append(
            f"--memPoolSize=workspace:{mebibytes}" if site.version >= (8, 4) or site.rtx else f"--workspace={mebibytes}"
        )
    if options.optimization_level is not None:
        words.append(f"--builderOptimizationLevel={options.optimization_level}")
    if options.timing_cache:
        words.append(f"--timingCacheFile={options.timing_cache}")
    if options.tactic_sources is not None:
        known = ("CUDNN", "CUBLAS", "CUBLAS_LT", "EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
        chosen = {name.upper() for name in options.tactic_sources}
        words.append("--tacticSources=" + ",".join(("+" if name in chosen else "-") + name for name in known))
    return words


def _features(options: BuildOptions) -> List[str]:
    words = []
    if options.dla_core is not None:
        words.append(f"--useDLACore={options.dla_core}")
        words += ["--allowGPUFallback"] if options.gpu_fallback else []
    if options.version_compatible:
        words.append("--versionCompatible")
    if options.hardware_compatible:
        level = {"ampere+": "ampere+", "same-compute-capability": "sameComputeCapability"}[options.hardware_compatible]
        words.append(f"--hardwareCompatibilityLevel={level}")
    words += ["--stripWeights"] if options.strip_plan else ["--refit"] if options.refit else []
    words += [] if options.tf32 else ["--noTF32"]
    words += ["--sparsity=enable"] if options.sparsity else []
    words += ["--profilingVerbosity=detailed"] if options.verbosity == "detailed" else []
    if options.compute_capabilities:
        words.append(
            "--computeCapabilities=" + ",".join(f"{major}.{minor}" for major, minor in options.compute_capabilities)
        )
    return words
