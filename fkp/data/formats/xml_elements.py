"""XML read piece by piece, with the line of each element."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from fkp.data.formats.source import Source
from fkp.errors import FkpError


@dataclass
class Element:
    """An element, the line on which it begins, and those inside it."""

    tag: str
    attributes: dict[str, str]
    line: int
    inner: list[Element] = field(default_factory=list)

    def get(self, name: str, default: str = "") -> str:
        """An attribute."""
        return self.attributes.get(name, default)

    def all(self, tag: str) -> list[Element]:
        """Those inside it of one tag."""
        return [element for element in self.inner if element.tag == tag]


def elements(path: Path, source: Source, tag: str) -> Iterator[Element]:
    """The elements of one tag, wherever they stand. One is in memory at a time: a file of 100,000 faces has seven million.

    Raises:
        FkpError: The file cannot be read, or is no XML; up to there all elements have come.
    """
    parser = expat.ParserCreate()
    opened: list[Element] = []
    done: list[Element] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if opened or name == tag:
            element = Element(name, attributes, parser.CurrentLineNumber)
            if opened:
                opened[-1].inner.append(element)
            opened.append(element)

    def end(name: str) -> None:
        if opened:
            element = opened.pop()
            if not opened:
                done.append(element)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 16):
                parser.Parse(chunk)
                yield from done
                done.clear()
        parser.Parse(b"", True)
    except OSError as error:
        raise FkpError(f"cannot read {path}: {error.strerror or error}") from error
    except expat.ExpatError as error:
        raise FkpError(f"{source.short(path)} is no whole XML file ({error}): export it again") from error
    yield from done
