"""docs/settings.md from the Config: `python -m tests.settings_page` writes it, and a test compares."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fkp.config import Config

PAGE = Path(__file__).resolve().parents[1] / "docs/settings.md"
_HEAD = """# Settings

Every setting of a run. A flag (`--optim.lr 0.003`), a line of a YAML file, and an entry of a search space are the same dotted path. Made
from `fkp/config.py` by `python -m tests.settings_page`.
"""
_BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}", "multiple_of": "a multiple of {}"}


def page() -> str:
    """The whole page."""
    alone = {name: field for name, field in Config.model_fields.items() if not isinstance(field.annotation, type)}
    sections = {name: field for name, field in Config.model_fields.items() if name not in alone}
    return f"{_HEAD}\n{_table(alone)}" + "".join(_section(name, field) for name, field in sections.items())


def _section(name: str, field: FieldInfo) -> str:
    section: Any = field.annotation
    assert issubclass(section, BaseModel) and section.__doc__
    table = _table({f"{name}.{key}": own for key, own in section.model_fields.items()})
    about = section.__doc__.strip().splitlines()[0]
    return f"\n## {name}\n\n{about}\n\n{table}"


def _table(fields: dict[str, FieldInfo]) -> str:
    cells = ((f"`{path}`", _default(own), ", ".join(_values(own)), own.description or "") for path, own in fields.items())
    rows = "".join(f"| {' | '.join(row)} |\n" for row in cells)
    return f"| setting | default | values | means |\n|---|---|---|---|\n{rows}"


def _default(field: FieldInfo) -> str:
    return "" if field.default in (None, ()) else f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


def _values(field: FieldInfo) -> Iterator[str]:
    kind: Any = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (part for part in get_args(kind) if part is not types.NoneType)
    if get_origin(kind) is Literal:
        yield ", ".join(f"`{value}`" for value in get_args(kind))
    else:
        yield {bool: "true, false", int: "a whole number", float: "a number", str: "text", tuple[str, ...]: "texts, commas between"}.get(
            kind, "two numbers"
        )
    for bound in field.metadata:
        for name, text in _BOUNDS.items():
            if (value := getattr(bound, name, None)) is not None:
                yield text.format(f"{value:g}")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
