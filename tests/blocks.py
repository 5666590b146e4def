"""The code blocks of the documents, and the commands in them as the programs themselves read them.

A comment on the line before a block says how it is tried: `<!-- run -->` runs its `fkp` commands, `<!-- endpoint -->` runs it against an
endpoint, and `<!-- settings -->`, `<!-- space -->`, `<!-- scheme -->`, `<!-- deployment -->` and `<!-- scrape -->` say what a YAML block
is. Every Python block runs; of every other command the flags are parsed.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fkp.cli import VERBS
from fkp.config import config_from_args

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
#: Whose reader types what they say.
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data/README.md", ROOT / "benchmarks/README.md", *PAGES]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_INNER = re.compile(r"\$\(([^()]*)\)")
_TAG = re.compile(r"<!-- ([\w-]+) -->\n\s*$")
#: Programs that are not ours and whose flags are theirs to check.
FOREIGN = {
    "pip",
    "curl",
    "gcloud",
    "git",
    "openssl",
    "kubectl",
    "docker",
    "eval",
    "export",
    "mkdir",
    "umask",
    "$EDITOR",
    ".",
    "cd",
    "ssh",
    "register-python-argcomplete",
}
_SPLIT = {"&&", "||", ";", "|", "(", ")", "&"}
_REDIRECT = {">", ">>", "<"}


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: The document.
        line: Of the fence.
        language: Behind the fence, such as `bash`.
        tag: See above; empty where there is none.
        text: What is in it.
    """

    page: Path
    line: int
    language: str
    tag: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a document, in their order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        tag = _TAG.search(text, 0, match.start())
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match["language"], tag[1] if tag else "", match["text"]))
    return found


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a shell block as words, without assignments before them; what a host is told stands for itself."""
    for line in text.replace("\\\n", " ").splitlines():
        if re.match(r"\w+\(\) \{", line):  # A function.
            continue
        for inner in _INNER.findall(line):
            yield from commands(inner)
        lexer = shlex.shlex(_INNER.sub("told", line), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        found = iter([*lexer, ";"])
        for word in found:
            if word in _REDIRECT:
                next(found)
            elif word in _SPLIT:
                yield from _plain(words)
                words = []
            else:
                words.append(word)


def _plain(words: list[str]) -> Iterator[list[str]]:
    while words and re.match(r"\w+=", words[0]):
        words = words[1:]
    if not words:
        return
    if words[0] == "on_head":  # docs/cluster.md
        yield from _plain(words[1:])
    elif words[0] == "ssh" or words[:2] == ["ray", "exec"]:
        yield words[:3]
        yield from commands(" ".join(words[2 if words[0] == "ssh" else 3 :]))
    elif words[:3] == ["ray", "job", "submit"] and "--" in words:
        yield words[: words.index("--")]
        yield from _plain(words[words.index("--") + 1 :])
    else:
        yield words


def check(words: list[str]) -> None:
    """Let the program that a command names read its flags.

    Raises:
        AssertionError: There is no such program, script, target or flag.
        SystemExit: argparse does not understand it.
        FkpError: Ours do not.
    """
    program, *rest = words
    program = program.removeprefix(".venv/bin/")
    if program == "python" and rest[0] == "-m" and rest[1] == "fkp":
        program, rest = "fkp", rest[2:]
    if program == "fkp":
        check_verb(*rest)
    elif program == "python" and rest[0] == "-m":
        assert importlib.util.find_spec(rest[1]) is not None, f"no module {rest[1]}"
    elif program == "python" and rest[0].endswith(".py"):
        _check_script(*rest)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(rest) <= set(targets), f"no target {rest}"
    elif program in ("ray", "serve", "mlflow"):
        _check_click(program, rest)
    else:
        assert program in FOREIGN or (program == "python" and rest[0] == "-c"), f"unknown program {program}"


def check_verb(verb: str = "--help", *rest: str) -> None:
    """Parse the flags of `fkp VERB`."""
    if verb in ("--help", "--version"):
        return
    assert verb in VERBS, f"no verb {verb}"
    if "--help" in rest:
        return
    parsers()[verb]([_here(word) for word in rest])


def parsers() -> dict[str, Callable[[list[str]], Any]]:
    """What reads the flags of each verb."""
    from fkp.adapt import __main__ as adapt
    from fkp.data import __main__ as data
    from fkp.evaluation import __main__ as evaluation
    from fkp.label import __main__ as label
    from fkp.predict import __main__ as predict
    from fkp.serve import __main__ as serve
    from fkp.track import __main__ as track
    from fkp.tune import options

    def of_config(argv: list[str]) -> Any:
        return config_from_args(argv, "fkp", "")

    def of_data(argv: list[str]) -> None:
        known, others = data._parser().parse_known_args(argv)
        assert known.command == "stats" or not others, f"unknown flags {others}"
        of_config(others)

    def of_few(*flags: str) -> Callable[[list[str]], None]:
        def parse(argv: list[str]) -> None:
            assert {word for word in argv if word.startswith("-")} <= set(flags), argv

        return parse

    return {
        "predict": predict._parse,
        "evaluate": evaluation._parse,
        "train": of_config,
        "adapt": adapt._parser().parse_args,
        "label": label.parse,
        "tune": options.parse,
        "serve": serve.parse,
        "data": of_data,
        "models": of_few(),
        "track": track._parser().parse_args,
        "cluster": of_few(),
        "reference": of_few("--bundle", "--root"),
        "demo": of_config,
    }


def _here(word: str) -> str:
    """A file of the checkout by its whole name: settings are read whatever the working folder is."""
    return str(ROOT / word) if word.startswith("configs/") else word


def _check_script(script: str, *rest: str) -> None:
    assert (ROOT / script).is_file(), f"no script {script}"
    if script == "tune/search.py":
        check_verb("tune", *rest)
        return
    source = (ROOT / script).read_text(encoding="utf-8")
    for word in rest:
        flag = word.partition("=")[0]
        assert not flag.startswith("--") or "." in flag or f'"{flag}"' in source, f"{script} has no flag {flag}"


def _check_click(program: str, rest: list[str]) -> None:
    import click

    if program == "ray":
        from ray.scripts.scripts import cli
    elif program == "serve":
        from ray.serve.scripts import cli
    else:
        from mlflow.cli import cli
    command: Any = cli
    context = click.Context(command, info_name=program)
    while isinstance(command, click.Group):
        name = rest.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"{program} has no command {name}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.make_parser(context).parse_args(list(rest))
