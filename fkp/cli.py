"""fkp VERB ...: every command of the project. `python -m fkp VERB` is the same.

A verb's module, with what it imports, is loaded only when the verb is called; `--help` of each is in its own parser.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import NamedTuple

from fkp.errors import FkpError, run_command


class Verb(NamedTuple):
    """One verb.

    Attributes:
        module: Has `main(argv)`.
        extra: With which it is installed; None for what the core does.
        about: What it does.
    """

    module: str
    extra: str | None
    about: str


VERBS: dict[str, Verb] = {
    "predict": Verb("fkp.predict.__main__", None, "find landmarks in images and videos"),
    "evaluate": Verb("fkp.evaluation.__main__", "train", "measure a bundle, or a running endpoint"),
    "train": Verb("fkp.train.__main__", "train", "train a model"),
    "adapt": Verb("fkp.adapt.__main__", "train", "bring a model to labels of your own"),
    "label": Verb("fkp.label.__main__", "label", "correct what a model guesses, on a page"),
    "tune": Verb("fkp.tune.search", "tune", "search for better settings"),
    "serve": Verb("fkp.serve.__main__", "serve", "answer images over HTTP"),
    "data": Verb("fkp.data.__main__", "train", "import, fetch, verify, describe, make, export and pack labelled faces"),
    "models": Verb("fkp.model.__main__", "train", "the architectures that can be trained"),
    "track": Verb("fkp.track.__main__", "train", "registered models: list, register, promote, roll back"),
    "cluster": Verb("fkp.cluster.preflight", "train", "check a cluster's file and its hosts before `ray up`"),
    "reference": Verb("fkp.evaluation.drift_reference", "train", "let a bundle tell the endpoint what faces it knows"),
    "demo": Verb("fkp.demo", "all", "train and try a small model"),
}

#: Names of before.
_OLD = {"search": "tune"}


def main(argv: list[str] | None = None) -> None:
    """Run one verb with the arguments behind it, and end the process with its status."""
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    given = sys.argv[1:] if argv is None else argv
    if not given or given[0] in ("-h", "--help"):
        run_command(_help)
    if given[0] in ("-V", "--version"):
        run_command(_version)
    name, *rest = given
    verb = VERBS.get(_OLD.get(name, name))
    run_command((lambda: _unknown(name)) if verb is None else (lambda: _run(verb, rest)), verb and verb.extra)


def _run(verb: Verb, argv: list[str]) -> int | None:
    status: int | None = importlib.import_module(verb.module).main(argv)
    return status


def _help() -> None:
    print("usage: fkp VERB ...\n")
    print("\n".join(f"  {name:10} {verb.about}" for name, verb in VERBS.items()))
    print("\n`fkp VERB --help` says more.")


def _version() -> None:
    from fkp import __version__

    print(f"fkp {__version__}")


def _unknown(name: str) -> None:
    near = difflib.get_close_matches(name, VERBS, n=1)
    raise FkpError(f"there is no verb {name}: " + (f"did you mean {near[0]}?" if near else f"choose one of {', '.join(VERBS)}"))


def _complete() -> None:
    """Answer the shell, which has asked for what may follow; installed with `eval "$(register-python-argcomplete fkp)"`."""
    import argparse

    import argcomplete

    words = os.environ.get("COMP_LINE", "").split()
    position = int(os.environ.get("COMP_POINT", "0"))
    typed = os.environ.get("COMP_LINE", "")[:position]
    if len(words) > 1 and (len(words) > 2 or typed.endswith(" ")) and (verb := VERBS.get(_OLD.get(words[1], words[1]))):
        os.environ["_ARGCOMPLETE"] = "2"  # The verb is the program.
        parse = argparse.ArgumentParser.parse_known_args

        def answer(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
            argparse.ArgumentParser.parse_known_args = parse  # type: ignore[method-assign]
            argcomplete.autocomplete(parser)  # Ends the process.

        # Whichever parser the verb makes answers in place of parsing.
        argparse.ArgumentParser.parse_known_args = answer  # type: ignore[method-assign, assignment]
        importlib.import_module(verb.module).main([])
    parser = argparse.ArgumentParser(prog="fkp")
    parser.add_argument("verb", choices=list(VERBS))
    argcomplete.autocomplete(parser)


if __name__ == "__main__":
    main()
