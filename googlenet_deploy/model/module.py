"""Any PyTorch classifier: a module made by the user's own code, with a checkpoint's weights.

The code is the user's own and runs at their request. The checkpoint is loaded like any other, without executing code.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from googlenet_deploy.device.class_files import read_class_names
from googlenet_deploy.device.labels import imagenet_classes
from googlenet_deploy.errors import BadWeightsError, GoogLeNetDeployError, InputError, UsageError, requires
from googlenet_deploy.model.weight_files import find_weight_files

with requires("export"):
    import torch
    from torch import Tensor, nn

    from googlenet_deploy.model.checkpoint import TorchClassifier
    from googlenet_deploy.model.checkpoint_forms import choose_state_dict, read_checkpoint
    from googlenet_deploy.model.declared_preprocessing import declared_preprocessing
    from googlenet_deploy.model.state_dict import dtype_note, load_state_dict, unwrap

if TYPE_CHECKING:
    from googlenet_deploy.device.specification import Preprocessing

FORM = "FILE.py:CALLABLE or package.module:CALLABLE"
SHOWN = 6
TOLERANCE = 1e-4  # of the largest score, between two runs of the same network on the same images
OPENING, CLOSING, QUOTES = "([{", ")]}", "'\""


@dataclass(frozen=True)
class ModuleRequest:
    """A classifier as specified by the user.

    Attributes:
        module: ``FILE.py:CALLABLE`` or ``package.module:CALLABLE``; the callable returns a module, or is one.
        arguments: The arguments of the call, such as ``num_classes=10,width=0.5``.
        weights: The checkpoint; None keeps the module's own weights.
        key: Which of several state dicts in the checkpoint to use; None chooses automatically.
        class_names: A file with a name per line; None for ImageNet's names if the module declares them.
    """

    module: str
    arguments: str = ""
    weights: str | None = None
    key: str | None = None
    class_names: str | None = None

    def sha256(self) -> str:
        """The hash of the checkpoint or, without one, of the module's own file; "" for an installed package."""
        if self.weights is not None:
            return find_weight_files(self.weights).sha256()
        place = self.module.rpartition(":")[0]
        return find_weight_files(place).sha256() if place.endswith(".py") else ""


@dataclass(frozen=True)
class NamedNetwork:
    """A network identified only by its name."""

    name: str


@dataclass
class ModuleClassifier(TorchClassifier):
    """A user's classifier.

    Attributes:
        classes: Number of scores.
    """

    classes: int = 0

    @property
    def num_classes(self) -> int:
        """Number of scores."""
        return self.classes


def load_module(request: ModuleRequest, choose: Callable[[Preprocessing | None], Preprocessing]) -> ModuleClassifier:
    """Makes a user's classifier and loads its weights.

    Args:
        request: The user's request.
        choose: Receives the preprocessing that the model declares, or None, and returns the one to use, or raises.

    Raises:
        InputError: The file cannot be imported, or the callable fails.
        UsageError: The callable does not exist or its arguments do not fit.
        BadWeightsError: The checkpoint does not fit.
        GoogLeNetDeployError: It is not a classifier of images.
    """
    function = find_callable(request.module)
    arguments = parse_arguments(request.arguments)
    model = _made(request.module, function, *arguments).eval()
    notes = dtype_note({name: value.detach() for name, value in model.named_parameters()})
    if notes:
        model.float()
    if request.weights is not None:
        notes = (*notes, *_load_weights(model, request))
    declared = declared_preprocessing(model, function, arguments[1])
    preprocessing = choose(declared.preprocessing if declared else None)
    if declared is not None and preprocessing == declared.preprocessing:
        notes = (*notes, f"preprocessing is {declared.origin}: {preprocessing.describe_geometry()}")
    classes = check_classifier(request.module, model, preprocessing)
    names, ids, told = _classes(request, classes, bool(declared))
    return ModuleClassifier(
        model=model,
        architecture=NamedNetwork(_name(function, model, arguments)),
        preprocessing=preprocessing,
        class_names=names,
        class_ids=ids,
        source=request.weights or request.module,
        source_sha256=request.sha256(),
        notes=(*notes, *told),
        classes=classes,
    )


def find_callable(place: str) -> Any:  # noqa: ANN401 - whatever the user's code holds
    """Imports the object named by ``FILE.py:CALLABLE`` or ``package.module:CALLABLE``.

    Raises:
        UsageError: The text has another form, or there is nothing of that name.
        InputError: The import fails.
    """
    file, _, name = place.rpartition(":")
    if not file or not name.isidentifier():
        raise UsageError(f"--module {place}: give {FORM}")
    module = _import_file(Path(file)) if file.endswith(".py") else _import_package(file)
    try:
        return getattr(module, name)
    except AttributeError:
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        own = [key for key in public if getattr(vars(module)[key], "__module__", "") == module.__name__] or public
        found = f"it has {', '.join(own[:SHOWN])}" if own else "it has no callables"
        raise UsageError(f"--module {place}: there is no {name} in {file}; {found}") from None


def parse_arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """``resnet18,num_classes=10,layers=[2, 2]`` to positional and named arguments.

    A value is a Python literal or, failing that, the text itself; commas inside brackets and quotes belong to the
    value.

    Raises:
        UsageError: A positional argument follows a named one, or a name is repeated.
    """
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for part in _split(text):
        key, equals, value = part.partition("=")
        if equals and key.strip().isidentifier():
            if key.strip() in named:
                raise UsageError(f"--module-args sets {key.strip()} twice")
            named[key.strip()] = _value(value)
        elif named:
            raise UsageError(f"--module-args: {part!r} comes after named arguments and has no name itself")
        else:
            positional.append(_value(part))
    return positional, named


def check_classifier(place: str, model: nn.Module, preprocessing: Preprocessing) -> int:
    """Checks that a model takes a batch of images and returns a vector of scores for each.

    Returns:
        The number of scores.

    Raises:
        GoogLeNetDeployError: It takes several inputs, fails, or returns something else.
    """
    _check_inputs(place, model)
    shape = (2, len(preprocessing.channels), *preprocessing.crop)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    scores = _run(place, model, images)
    wanted = "a classifier returns one tensor of scores, (images, classes)"
    if not isinstance(scores, Tensor):
        raise GoogLeNetDeployError(
            f"{place}: in eval mode the model returns {_described(scores)}; {wanted}",
            "return the scores alone where self.training is False, or wrap the model in a module that does",
        )
    if not _is_scores(scores):
        sparse = "" if scores.layout is torch.strided else f"{scores.layout} "
        raise GoogLeNetDeployError(
            f"{place}: for two images the model returns {sparse}{scores.dtype} {tuple(scores.shape)}; {wanted}",
            "flatten the output, return it as float32, or pass the classifier's own module",
        )
    if not _same(scores, _run(place, model, images)):
        raise GoogLeNetDeployError(
            f"{place}: the model returns other scores each time it runs on the same images, or none that are finite",
            "take random operations, such as functional.dropout without training=self.training, out of its forward",
        )
    more = _run(place, model, torch.cat([images, images.flip(0)[:1] / 2]))
    if not isinstance(more, Tensor) or len(more) != 3 or not _same(scores, more[:2]):
        raise GoogLeNetDeployError(
            f"{place}: the model returns an image other scores if there are more images in the batch",
            "keep the images apart in its forward: no number of images, no statistics of the batch in eval mode, no "
            "loop or branch on values of the whole batch",
        )
    return int(scores.shape[1])


def _run(place: str, model: nn.Module, images: Tensor) -> Any:  # noqa: ANN401 - whatever the user's model returns
    with _user_code(f"{place}: the model does not run on float32 {tuple(images.shape)}"), torch.inference_mode():
        return model(images)


def _is_scores(scores: Tensor) -> bool:
    """Whether this is a dense tensor of scores, in float32 or float64, of two images."""
    usual = scores.layout is torch.strided and scores.dtype in (torch.float32, torch.float64)
    return usual and scores.dim() == 2 and scores.shape[0] == 2 and scores.shape[1] >= 2


def _same(scores: Tensor, others: Tensor) -> bool:
    return bool((scores - others).abs().max() <= TOLERANCE * max(float(scores.abs().max()), 1e-12))


def _check_inputs(place: str, model: nn.Module) -> None:
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # a forward without a signature: only running it shows
        return
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(needed) > 1 or (not positional and not any(p.kind == p.VAR_POSITIONAL for p in parameters)):
        inputs = f"{len(needed)} inputs ({', '.join(needed)})" if needed else "no input"
        raise GoogLeNetDeployError(
            f"{place}: the model accepts {inputs}; a classifier of images accepts one",
            "wrap it in a module whose forward takes the images alone",
        )


def _import_file(path: Path) -> Any:  # noqa: ANN401 - a module
    if not path.is_file():
        raise InputError(path, "there is no such file", f"pass --module {FORM}")
    name = f"_user_module_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look a class's module up
    with _search_path(path.resolve().parent), _user_code(f"{path}: fails on import", path):
        spec.loader.exec_module(module)
    return module


def _import_package(name: str) -> Any:  # noqa: ANN401 - a module
    with _search_path(Path.cwd()), _user_code(f"{name}: fails on import"):
        return importlib.import_module(name)


@contextmanager
def _search_path(folder: Path) -> Iterator[None]:
    """Adds the user file's folder and the working directory to the search path, also for later imports."""
    for place in (str(Path.cwd()), str(folder)):
        if place not in sys.path:
            sys.path.insert(0, place)
    yield


@contextmanager
def _user_code(what: str, path: Path | None = None) -> Iterator[None]:
    """Turns any exception of the user's code into one line, with the line number in their file if known."""
    try:
        yield
    except (KeyboardInterrupt, GoogLeNetDeployError):
        raise
    except BaseException as error:
        raise GoogLeNetDeployError(f"{what}: {_one_line(error)}{_line_of(error, path)}") from error


def _one_line(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - the exception is the user's too
        text = ""
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def _line_of(error: BaseException, path: Path | None) -> str:
    if isinstance(error, SyntaxError) or path is None:
        return ""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f" (line {lines[-1]})" if lines else ""


def _made(place: str, function: Any, positional: list[Any], named: dict[str, Any]) -> nn.Module:  # noqa: ANN401
    """The module that the user's callable returns."""
    if isinstance(function, nn.Module):
        if positional or named:
            raise UsageError(f"--module {place} is a module already: --module-args has nothing to call")
        return function
    if not callable(function):
        raise UsageError(f"--module {place} is {_described(function)}, which cannot be called")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        signature = None
    if signature is not None:
        try:
            signature.bind(*positional, **named)
        except TypeError as error:
            raise UsageError(
                f"--module {place}: {error}; it accepts {signature}", "pass --module-args NAME=VALUE,..."
            ) from error
    with _user_code(f"{place}: calling it fails"):
        model = function(*positional, **named)
    if not isinstance(model, nn.Module):
        raise GoogLeNetDeployError(f"{place}: returns {_described(model)}, not a torch.nn.Module")
    return model


def _load_weights(model: nn.Module, request: ModuleRequest) -> tuple[str, ...]:
    path = Path(str(request.weights))
    state, notes = choose_state_dict(read_checkpoint(path), request.key)
    wanted = model.state_dict()
    found = unwrap(state.tensors, wanted, path, request.key)
    seen = f"for {type(model).__name__}" + (f", names begin with {found.prefix!r}" if found.prefix else "")
    remedy = f"is it a checkpoint of {request.module} with these --module-args?"
    if not set(found.tensors) & set(wanted):
        names = ", ".join(list(state.tensors)[:3])
        raise BadWeightsError(
            path,
            f"has no tensor of {type(model).__name__}: it contains {names}, ...; wanted: {next(iter(wanted), 'none')}",
            remedy,
        )
    load_state_dict(model, found.tensors, path, seen=seen, remedy=remedy)
    return (*notes, *found.notes, *dtype_note(state.tensors))


def _classes(
    request: ModuleRequest, classes: int, declared: bool
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Names, WordNet ids, and notes on them."""
    if request.class_names is not None and request.class_names != "imagenet":
        names = read_class_names(request.class_names)
        if len(names) != classes:
            raise InputError(request.class_names, f"names {len(names)} classes, the model has {classes}")
        return names, (), ()
    if request.class_names == "imagenet" or (declared and classes == len(imagenet_classes())):
        if classes != len(imagenet_classes()):
            raise UsageError(f"--class-names imagenet: the model has {classes} classes")
        entries = imagenet_classes()
        note = () if request.class_names else ("class names are ImageNet's: the model has its 1000 classes",)
        return tuple(e.name for e in entries), tuple(e.wordnet_id for e in entries), note
    return (), (), (f"the {classes} classes have no names: pass --class-names FILE",)


def _name(function: Any, model: nn.Module, arguments: tuple[list[Any], dict[str, Any]]) -> str:  # noqa: ANN401
    """The network's name: the name passed to a factory, otherwise that of its class."""
    positional, named = arguments
    asked = named.get("model_name", positional[0] if positional else None)
    if isinstance(asked, str) and not inspect.isclass(function) and not Path(asked).exists():  # a file of weights
        return asked
    return str(getattr(model, "original_name", type(model).__name__))  # of a scripted module, its own class's


def _described(value: object) -> str:
    if inspect.isclass(value):
        return f"the class {value.__name__}"
    kind = type(value).__name__
    described = f"{'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}"
    if isinstance(value, tuple | list):
        return f"{described} of {len(value)}"
    if isinstance(value, dict) and value:
        return f"{described} with {', '.join(map(str, list(value)[:3]))}"
    return described


def _split(text: str) -> list[str]:
    parts, depth, quote, current = [], 0, "", ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in QUOTES:
            quote = letter
        depth += 0 if quote else (letter in OPENING) - (letter in CLOSING)
        if letter == "," and not depth and not quote:
            parts.append(current)
            current = ""
        else:
            current += letter
    return [part.strip() for part in (*parts, current) if part.strip()]


def _value(text: str) -> Any:  # noqa: ANN401 - any literal
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text.strip()
