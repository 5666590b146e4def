"""The one exception type whose text is meant for the person at the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


class FkpError(Exception):
    """Something the user can mend. The message is one sentence that names the thing and says what to do."""


def run_command(command: Callable[[], int | None]) -> None:
    """Run a command-line entry point and leave the process with its exit status.

    An `FkpError` becomes one line on stderr and status 1; anything else keeps its traceback, because it is a
    defect of ours and the traceback is what a bug report needs.
    """
    try:
        status = command()
        sys.stdout.flush()  # Here, where a reader that went away is no error, and not when the interpreter ends.
    except FkpError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); what it has read was right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(status or 0)
