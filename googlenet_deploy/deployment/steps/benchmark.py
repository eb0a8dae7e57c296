"""Latency on this machine: not the target's, but measured, and a baseline for comparing precisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from googlenet_deploy.deployment.job import MODELS, Job, Outcome, Step
from googlenet_deploy.device.benchmark.options import BenchmarkOptions
from googlenet_deploy.device.benchmark.run import Benchmark
from googlenet_deploy.device.files import write_json
from googlenet_deploy.device.runner.select import open_runner

if TYPE_CHECKING:
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.specification import Preprocessing

ROUNDS, SECONDS, WARM_UP = 3, 0.5, 3.0
IMAGES = 8


class BenchmarkHere(Step):
    """``benchmark-PRECISION.json`` for every precision, in short rounds at batch 1."""

    name = "benchmark"

    def left_out(self, job: Job) -> str:
        """If it was switched off."""
        return "" if job.config.benchmark else "it was switched off"

    def inputs(self, job: Job) -> dict[str, Any]:
        """The models; the same models are not measured again."""
        hashes = {name: job.state.hash_of(MODELS[name]) for name in job.precisions()}
        return {"models": hashes, "threads": job.config.threads}

    def run(self, job: Job) -> Outcome:
        """Measures one model after the other."""
        medians, outputs = [], []
        for name in job.precisions():
            result = self._measure(job, name)
            file = f"benchmark-{name}.json"
            write_json(job.path(file), result)
            outputs.append(file)
            median = result["configurations"][0]["milliseconds"]["run"]["p50"]["value"]
            medians.append(f"{name.upper()} {median:.1f} ms")
        return Outcome(tuple(outputs), f"on this machine: {', '.join(medians)} per image", {"files": outputs})

    def _measure(self, job: Job, name: str) -> dict[str, Any]:
        def open_model(_slots: int, threads: int | None, batch: int) -> Runner:
            return open_runner(job.path(MODELS[name]), threads=threads, batch=batch)

        def own(runner: Runner) -> Preprocessing:
            assert runner.metadata.preprocessing is not None  # written by our own export
            return runner.metadata.preprocessing

        options = BenchmarkOptions(
            rounds=ROUNDS,
            seconds=SECONDS,
            warm_up_seconds=WARM_UP,
            image_count=IMAGES,
            threads=job.threads,
            trtexec=False,
        )
        images = job.sources(job.data("images")["evaluation"])[: 4 * IMAGES]
        return Benchmark(open_model, own, options, images, quiet=job.quiet).run()
