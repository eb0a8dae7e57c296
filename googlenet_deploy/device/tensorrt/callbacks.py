"""TensorRT's callbacks: logger and progress monitor, with base classes of the loaded library."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional

LogSink = Callable[[str, str], None]


def make_logger(base: Any) -> Any:  # noqa: ANN401 - TensorRT has no types
    """Makes a logger that passes (severity, message) to its attribute ``sink``, if that is set.

    Args:
        base: The library's ``ILogger``.
    """

    class _Logger(base):  # type: ignore[misc] # TensorRT's class is made at run time
        def __init__(self) -> None:
            super().__init__()
            self.sink: Optional[LogSink] = None

        def log(self, severity: Any, message: str) -> None:  # noqa: ANN401
            if self.sink is not None:
                self.sink(str(severity).rpartition(".")[2], message)

    return _Logger()


def make_monitor(base: Any, step: Callable[[str, int, int], bool]) -> Any:  # noqa: ANN401
    """Makes a progress monitor.

    Args:
        base: The library's ``IProgressMonitor``.
        step: Called with (phase, steps done, steps in all); False cancels the build.
    """

    class _Monitor(base):  # type: ignore[misc] # TensorRT's class is made at run time
        def __init__(self) -> None:
            super().__init__()
            self.totals: Dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: Optional[str], num_steps: int) -> None:
            del parent_phase
            self.totals[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            self.totals.pop(phase_name, None)

        def step_complete(self, phase_name: str, step_number: int) -> bool:
            return step(phase_name, step_number + 1, self.totals.get(phase_name, 0))

    return _Monitor()
