"""Serves a model: starts the server, the model and the monitors, and ends all of them."""

from __future__ import annotations

import secrets
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Sequence

from googlenet_deploy.device.class_files import StatedNames, choose_class_list
from googlenet_deploy.device.files import PathLike, reason
from googlenet_deploy.device.power.select import open_sampler
from googlenet_deploy.device.preprocessing_options import OPENCV_DIFFERS, StatedPreprocessing, runner_preprocessing
from googlenet_deploy.device.runner.select import GpuOptions, RunnerOptions, open_runner
from googlenet_deploy.device.serve.batching import Batcher
from googlenet_deploy.device.serve.capture import LowConfidenceFolder
from googlenet_deploy.device.serve.drift import DriftMonitor
from googlenet_deploy.device.serve.energy import EnergyCounter
from googlenet_deploy.device.serve.live import LiveView
from googlenet_deploy.device.serve.metrics import CONTENT_TYPE, Metrics
from googlenet_deploy.device.serve.options import DEFAULT_ADDRESS, Address, ServeOptions, listen, parse_address
from googlenet_deploy.device.serve.request import RefusedRequestError, Request
from googlenet_deploy.device.serve.server import (
    COOKIE,
    LOOPBACK_HOSTS,
    Access,
    Endpoint,
    HttpServer,
    Response,
    json_response,
)
from googlenet_deploy.device.serve.service import ImageService, PostedImages
from googlenet_deploy.device.stream.inputs import open_inputs, silence_of
from googlenet_deploy.device.stream.options import FrameOptions
from googlenet_deploy.device.text import Report, log_note
from googlenet_deploy.errors import GoogLeNetDeployError, InputError, UsageError

if TYPE_CHECKING:
    from googlenet_deploy.device.runner.protocol import Runner
    from googlenet_deploy.device.specification import Preprocessing
    from googlenet_deploy.device.stream.inputs import StreamInputs

SHORTEST_TOKEN = 16


def serve(
    model: PathLike,
    *sources: str,
    address: str = DEFAULT_ADDRESS,
    options: Optional[ServeOptions] = None,
    running: Optional[RunnerOptions] = None,
    frames: Optional[FrameOptions] = None,
    gpu: Optional[GpuOptions] = None,
    preprocessing: StatedPreprocessing = None,
    class_names: StatedNames = None,
    top_k: int = 5,
    reconnect: Optional[int] = None,
    stop: Optional[threading.Event] = None,
    report: Report = log_note,
) -> int:
    """Answers HTTP requests with a model until `stop` is set; see docs/serving.md for what it answers.

    Args:
        model: An ``.onnx`` file or an engine.
        sources: A camera, video, stream, or images that are classified in addition to the requests.
        address: ``HOST:PORT``, ``[IPv6]:PORT`` or ``PORT``; port 0 selects a free port.
        options: Limits, token, and what is monitored.
        running: Backend and CPU threads.
        frames: How images are prepared; `batch_size` is the largest batch of one run of the network.
        gpu: How an engine runs.
        preprocessing: How images are prepared; None uses the model's own preprocessing.
        class_names: A file, "imagenet", or names; None uses the model's own.
        top_k: Classes per image.
        reconnect: Consecutive reconnections to a source that breaks; None for the default.
        stop: Set from another thread to end; None serves until the process ends.
        report: Called with lines such as the address and the token.

    Returns:
        Images classified.

    Raises:
        DeviceError: The address cannot be listened on, or TensorRT, CUDA or a GPU is missing.
        UsageError: The options are invalid.
        BadModelError: The model cannot be loaded.
        InputError: A source, the token or the calibration table cannot be used.
        OutputError: The folder for captured images cannot be used.
    """
    place, options = parse_address(address), options or ServeOptions()
    running, frames, stop = running or RunnerOptions(), frames or FrameOptions(), stop or threading.Event()
    if frames.image_backend == "opencv":
        report(OPENCV_DIFFERS)
    inputs = None
    if sources:
        inputs = open_inputs(sources, None, stop, reconnect=reconnect, report=report)
        frames = replace(frames, silence=silence_of(inputs))
    with open_runner(
        model, running.backend, threads=running.threads, batch=frames.batch_size, as_is=running.as_is, gpu=gpu
    ) as runner:
        images = serve_model(
            runner,
            runner_preprocessing(preprocessing, runner, report),
            choose_class_list(class_names, runner.metadata.class_names, report=report).names,
            top_k=top_k,
            address=place,
            options=options,
            frames=frames,
            inputs=inputs,
            source=" ".join(sources),
            stop=stop,
            report=report,
        )
        for note in runner.notes:
            report(note)
    return images


def serve_model(
    runner: Runner,
    spec: Preprocessing,
    names: Sequence[str],
    *,
    top_k: int,
    address: Address,
    options: ServeOptions,
    frames: FrameOptions,
    inputs: Optional[StreamInputs] = None,
    source: str = "",
    stop: threading.Event,
    report: Callable[[str], None],
) -> int:
    """Answers requests until `stop` is set.

    Args:
        runner: The model.
        spec: How images are prepared.
        names: Class names; empty if there are none.
        top_k: Classes per image.
        address: Where to listen.
        options: Limits, and what is monitored.
        frames: How frames are prepared; the batch size is also the largest number of requests in one run.
        inputs: A camera or video that is classified in addition to the requests; None for none.
        source: Its name.
        stop: Set it from any thread to end.
        report: Called with lines for the user.

    Returns:
        Images classified.

    Raises:
        DeviceError: The address cannot be listened on.
        UsageError: The token is too short.
        InputError: The token or the calibration table cannot be read, or the table is of another model.
        OutputError: The folder for captured images cannot be used.
    """
    sockets, local = listen(address)
    with ExitStack() as stack:
        for sock in sockets:
            stack.callback(sock.close)
        token = choose_token(options, local=local, report=report)
        access = Access(token, (*LOOPBACK_HOSTS, address.host.lower()) if local else ())
        service = _service(runner, spec, names, top_k, options, frames, source, stop, report, stack)
        energy = stack.enter_context(
            EnergyCounter(open_sampler(options.power, runner.device), lambda: service.metrics.images)
        )
        watched = [part for part in (energy, service.drift, service.capture) if part is not None]
        endpoints = _endpoints(service, options, token, [part.lines for part in watched], report)
        server = HttpServer(sockets, endpoints, access, options.max_connections, service.metrics.count_answer, stop)
        if inputs is not None:
            ended = threading.Event()  # a separate event, since the end of a source does not end the server
            follower = threading.Thread(
                target=_follow, args=(service, inputs, frames, ended, report), name="source", daemon=True
            )
            follower.start()
            stack.callback(follower.join, 5.0)
            stack.callback(ended.set)
        stack.callback(stop.set)
        place = address._replace(port=sockets[0].getsockname()[1])
        report(f"serving on http://{place}/ (POST /classify, GET /stream, /metrics, /healthz); {runner.backend}")
        server.run()
        return service.metrics.images


def choose_token(options: ServeOptions, *, local: bool, report: Callable[[str], None]) -> Optional[str]:
    """The token that requests must carry; None on loopback without a file.

    Raises:
        InputError: The file cannot be read.
        UsageError: The token is too short, or cannot be sent in a header.
    """
    if options.token_file is not None:
        token = _read_token(options.token_file)
        if len(token) < SHORTEST_TOKEN or not all("!" <= letter <= "~" for letter in token):
            raise UsageError(
                f"{options.token_file}: a token is {SHORTEST_TOKEN} or more visible ASCII characters",
                f"make one: openssl rand -hex 24 > {options.token_file}",
            )
        return token
    if local:
        return None
    token = secrets.token_urlsafe(24)
    report(f"requests from the network need this token: {token} (Authorization: Bearer TOKEN, or /stream?token=TOKEN)")
    report("requests and answers are not encrypted: put a proxy with TLS in front of it on networks that are not yours")
    return token


def _read_token(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(path, f"cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(path, "is not a text file with a token") from error


def _service(
    runner: Runner,
    spec: Preprocessing,
    names: Sequence[str],
    top_k: int,
    options: ServeOptions,
    frames: FrameOptions,
    source: str,
    stop: threading.Event,
    report: Callable[[str], None],
    stack: ExitStack,
) -> ImageService:
    metrics = Metrics()
    capture = drift = None
    if options.capture_low_confidence is not None:
        folder, most = options.capture_low_confidence, options.capture_images
        capture = LowConfidenceFolder(folder, most, options.capture_megabytes, report)
    if options.calibration_table is not None:
        drift = stack.enter_context(
            DriftMonitor(runner, options.calibration_table, options.drift_model, options.drift_every, report)
        )
        for note in drift.notes:
            report(note)
    live = LiveView(Path(runner.path).name, source, metrics.snapshot, stop)
    stack.callback(live.wake)
    batcher = stack.enter_context(Batcher(runner, frames.batch_size, metrics.count_batch))
    return ImageService(
        runner=runner,
        spec=spec,
        names=names,
        top_k=top_k,
        image_backend=frames.image_backend,
        batcher=batcher,
        metrics=metrics,
        live=live,
        low_confidence=options.low_confidence,
        capture=capture,
        drift=drift,
    )


def _follow(
    service: ImageService,
    inputs: StreamInputs,
    frames: FrameOptions,
    ended: threading.Event,
    report: Callable[[str], None],
) -> None:
    """Follows the source; if it breaks, requests are still answered, and `/healthz` and the page show it."""
    workers = 1 if inputs.live else frames.workers  # more would only hold frames that become late
    options = replace(frames, batch_size=1, keep_images=True, live=inputs.live, max_latency=None, workers=workers)
    try:
        service.follow(inputs, options, ended)
    except GoogLeNetDeployError as error:
        problem = service.live.broken = error.message
    else:
        problem = "the source has ended"
    if not service.live.stopped:
        report(f"{problem}; requests are still answered")
        service.live.end(problem)


def _endpoints(
    service: ImageService,
    options: ServeOptions,
    token: Optional[str],
    further: Sequence[Callable[[], List[str]]],
    report: Callable[[str], None],
) -> Dict[str, Endpoint]:
    posted = PostedImages(service)
    reported: List[str] = []

    def classify(_request: Request, body: bytes) -> Response:
        try:
            answer, seconds = posted.classify(body)
        except GoogLeNetDeployError as error:
            if not reported:
                reported.append(error.message)
                report(f"requests fail: {error.message}")
            raise RefusedRequestError(500, error.message) from error
        except MemoryError:
            raise RefusedRequestError(503, "there is not enough memory for this image") from None
        return json_response(200, {**answer.row(), "latency_ms": 1000 * seconds})

    def page(request: Request, _body: bytes) -> Response:
        if token is not None and "token" in request.query:  # out of the address, which browsers keep and show
            cookie = f"{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/"
            return Response(303, b"", headers={"Location": "/stream", "Set-Cookie": cookie})
        return service.live.page(secrets.token_urlsafe(16))

    def metrics(_request: Request, _body: bytes) -> Response:
        lines = [*service.metrics.lines(), *(line for more in further for line in more())]
        return Response(200, ("\n".join(lines) + "\n").encode(), CONTENT_TYPE)

    def health(_request: Request, _body: bytes) -> Response:
        failure = service.batcher.failure
        problem = service.live.broken or ("" if failure is None else str(failure))
        if problem:
            return json_response(503, {"status": "failing", "problem": problem})
        return json_response(200, {"status": "ok"})

    return {
        "/classify": Endpoint("POST", classify, largest_body=options.largest_body),
        "/stream": Endpoint("GET", page),
        "/stream/events": Endpoint("GET", lambda _request, _body: service.live.events()),
        "/metrics": Endpoint("GET", metrics),
        "/healthz": Endpoint("GET", health, open=True),
    }
