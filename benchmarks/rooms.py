"""How the rooms of fkp import each other: rooms, floors, arrows and circles, and lines of Python, beside what was asked.

A room is a module or package directly in fkp, an arrow an import between two of them (lazy ones and those for types included), a
floor a step of the longest chain of arrows. Circles are counted between siblings, in fkp and in each of its rooms.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
ASKED = {"rooms": 22, "floors": 8, "arrows": 100, "circles": 0, "lines": 16_600}


def arrows(graph: grimp.ImportGraph, package: str) -> dict[str, set[str]]:
    """Which children of a package import which others."""
    children = sorted(name for name in graph.find_children(package) if not name.endswith(".__main__"))
    family = {child: {child} | graph.find_descendants(child) for child in children}
    home = {module: child for child, modules in family.items() for module in modules}
    found: dict[str, set[str]] = {child: set() for child in children}
    for module, child in home.items():
        found[child] |= {home[used] for used in graph.find_modules_directly_imported_by(module) if home.get(used, child) != child}
    return found


def circles(edges: dict[str, set[str]]) -> int:
    """Pairs that reach each other, counted as groups."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for name in edges[todo.pop()] - seen:
                seen.add(name)
                todo.append(name)
        return seen

    reach = {name: reached(name) for name in edges}
    return len(
        {frozenset(other for other in edges if other in reach[name] and name in reach[other]) for name in edges if name in reach[name]}
    )


def main() -> int:
    """Print the figures; the status is 1 when one is missed."""
    graph = grimp.build_graph("fkp")
    edges = arrows(graph, "fkp")
    loops = sum(circles(arrows(graph, package)) for package in ("fkp", *graph.find_descendants("fkp")) if graph.find_children(package))

    @functools.cache
    def floor(name: str) -> int:
        return 1 + max((floor(used) for used in edges[name]), default=0)

    files = [path for room in ("fkp", "tune", "serve") for path in (ROOT / room).rglob("*.py") if "_shipped" not in path.parts]
    figures = {
        "rooms": len(edges),
        "floors": max(map(floor, edges)) if not circles(edges) else 0,
        "arrows": sum(map(len, edges.values())),
        "circles": loops,
        "lines": sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files),
    }
    for name, value in figures.items():
        print(f"{name:8} {value:6,}   asked at most {ASKED[name]:,}")
    for name, used in sorted(edges.items(), key=lambda item: (-floor(item[0]), item[0])):
        print(f"{floor(name):3}  {name.removeprefix('fkp.'):11} {', '.join(sorted(other.removeprefix('fkp.') for other in used))}")
    return int(any(value > ASKED[name] for name, value in figures.items()))


if __name__ == "__main__":
    sys.exit(main())
