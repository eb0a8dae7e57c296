"""The bundle for the device, and its self-test in an empty folder."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from googlenet_deploy.deployment.job import FP32, MODELS, TABLE, Job, Outcome, Step
from googlenet_deploy.deployment.steps.build import model_of
from googlenet_deploy.device.bundle.selftest import check_lines, failed, self_test
from googlenet_deploy.errors import VerificationError
from googlenet_deploy.packaging.content import unpack_bundle
from googlenet_deploy.packaging.device_zipapp import device_zipapp

FILE = "bundle.zip"


class Bundle(Step):
    """``bundle.zip``, unpacked and tested as the device would."""

    name = "bundle"

    def left_out(self, job: Job) -> str:
        """If the target is TensorRT-RTX, whose engine needs no bundle."""
        return "TensorRT-RTX runs model.engine itself; bundles are for Jetsons" if job.target.rtx else ""

    def inputs(self, job: Job) -> dict[str, Any]:
        """Everything that is packed."""
        hashes = {name: job.state.hash_of(MODELS[name]) for name in job.precisions()}
        config = job.config
        return {
            "models": hashes,
            "table": job.state.hash_of(TABLE),
            "images": job.state.hash_of("images.json"),
            "program": hashlib.sha256(device_zipapp()).hexdigest(),
            "options": [config.target, config.precision, list(config.batch), config.golden_images],
        }

    def run(self, job: Job) -> Outcome:
        """Packs, unpacks, tests."""
        from googlenet_deploy.packaging.jetson import JetsonRequest, write_jetson  # noqa: PLC0415 - brings onnx

        config = job.config
        request = JetsonRequest(
            target=job.target,
            precision=config.precision,
            models=packed_models(job),
            images=job.sources(job.data("images")["evaluation"]),
            pyz=device_zipapp(),
            table=job.path(TABLE) if config.precision == "int8" else None,
            batch=config.batches,
            golden_count=config.golden_images,
            made_from={"deployment": job.state.records["export"].fingerprint},
        )
        result = write_jetson(job.path(FILE), request)
        lines = self._tested(job)
        size = sum(item.bytes for item in result.manifest.files)
        text = f"{len(result.manifest.files)} files, {size / 1e6:.1f} MB; self-test passes in an empty folder"
        data = {"checks": lines, "files": len(result.manifest.files), "bytes": size}
        return Outcome((FILE,), text, data, result.notes)

    def _tested(self, job: Job) -> list[str]:
        """Unpacks into a separate folder and runs the self-test there."""
        with tempfile.TemporaryDirectory(prefix=".self-test.", dir=job.folder) as folder:
            unpack_bundle(job.path(FILE), Path(folder) / "bundle")
            checks = self_test(Path(folder) / "bundle")
        wrong = failed(checks)
        if wrong:
            job.path(FILE).unlink()
            raise VerificationError(f"the bundle's self-test fails on the machine that packed it: {wrong[0].text}")
        return check_lines(checks)


def packed_models(job: Job) -> dict[str, Path]:
    """The ONNX files for the bundle: all except FP16 ones that no TensorRT of the target builds from."""
    models = {name: job.path(MODELS[name]) for name in job.precisions()}
    if job.config.precision == "fp16" and model_of(job) == FP32:
        models.pop("fp16", None)
    return models
