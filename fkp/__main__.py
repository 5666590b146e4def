"""python -m fkp COMMAND ...: one name for every command of the project."""

from __future__ import annotations

import runpy
import sys

from fkp.errors import FkpError, run_command

#: Command -> (module with a `main`, what it does).
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("fkp.demo", "train and try a small model"),
    "data": ("fkp.data", "fetch, verify and describe the faces"),
    "train": ("fkp.train", "train a model"),
    "search": ("fkp.tune.search", "search for better settings"),
    "track": ("fkp.track", "registered models"),
    "evaluate": ("fkp.evaluate", "measure a bundle, or a running endpoint"),
    "reference": ("fkp.reference", "let a bundle tell the endpoint what faces it knows"),
    "predict": ("fkp.predict", "find points in pictures"),
    "serve": ("fkp.serve.start", "answer pictures over HTTP"),
}


def main(argv: list[str] | None = None) -> None:
    """Run one command with the arguments behind its name.

    Raises:
        FkpError: There is no such command.
    """
    given = sys.argv[1:] if argv is None else argv
    if not given or given[0] in ("-h", "--help"):
        print("usage: python -m fkp COMMAND ...\n")
        print("\n".join(f"  {name:10} {about}" for name, (_, about) in COMMANDS.items()))
        print("\n`python -m fkp COMMAND --help` says more.")
        return
    name, *rest = given
    if name not in COMMANDS:
        raise FkpError(f"there is no command {name}: choose one of {', '.join(COMMANDS)}")
    sys.argv = [f"fkp {name}", *rest]
    # As `python -m MODULE` would: each module ends the process with its own status.
    runpy.run_module(COMMANDS[name][0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    run_command(main)
