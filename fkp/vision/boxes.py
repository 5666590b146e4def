"""Boxes of ISO base media files (ISO/IEC 14496-12), of which AVIF images and MP4 and QuickTime videos are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence


def children(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each box, up to the first that is none; the content of one that is cut off is what there is of it."""
    while len(view) >= 8:
        size, kind, head = int.from_bytes(view[:4], "big"), bytes(view[4:8]), 8
        if size == 1:
            size, head = int.from_bytes(view[8:16], "big"), 16
        size = size or len(view)
        if size < head:
            return
        yield kind, view[head:size]
        view = view[size:]


def inner(view: memoryview, *path: bytes) -> memoryview:
    """Content of the first box at each step of a path; empty where there is none."""
    for kind in path:
        view = next((content for found, content in children(view) if found == kind), view[:0])
        if kind == b"meta":  # The one box on our ways that has a version before its children.
            view = view[4:]
    return view


def brands(view: memoryview) -> set[bytes]:
    """What a file says that it is, by its first box; empty where it is no such file."""
    if bytes(view[4:8]) != b"ftyp":
        return set()
    told = bytes(inner(view, b"ftyp"))
    return {told[place : place + 4] for place in (0, *range(8, len(told), 4))}


def transforms(view: memoryview) -> list[tuple[bytes, memoryview]]:
    """What a reader must do to the primary image of an AVIF file: kind and content of each property, in order.

    `clap` crops, `irot` turns, `imir` mirrors (ISO/IEC 23008-12, 6.5). A file that is cut off says less; its decoder tells.
    """
    meta = inner(view, b"meta")
    primary = inner(meta, b"pitm")
    wanted = int.from_bytes(primary[4 : 6 if primary[:1].tobytes() == b"\0" else 8], "big")
    properties = list(children(inner(meta, b"iprp", b"ipco")))
    found: list[tuple[bytes, memoryview]] = []
    for kind, table in children(inner(meta, b"iprp")):
        if kind != b"ipma":
            continue
        place, wide_item, wide_index = 8, table[0] > 0, table[3] & 1
        for _ in range(int.from_bytes(table[4:8], "big")):
            item = int.from_bytes(table[place : (place := place + (4 if wide_item else 2))], "big")
            count = int.from_bytes(table[place : (place := place + 1)], "big")
            step = 2 if wide_index else 1
            for _ in range(count):
                # The highest bit says only that a reader must know the property.
                index = int.from_bytes(table[place : (place := place + step)], "big") & (0x7FFF if wide_index else 0x7F)
                if item == wanted and 0 < index <= len(properties):
                    found.append(properties[index - 1])
            if place >= len(table):
                break
    return [entry for entry in found if entry[0] in (b"clap", b"irot", b"imir")]


def box(kind: bytes, *content: bytes | memoryview) -> bytes:
    """One box."""
    data = b"".join(content)
    return (8 + len(data)).to_bytes(4, "big") + kind + data


def changed(view: memoryview, path: Sequence[bytes], change: Callable[[memoryview], bytes]) -> bytes:
    """The same boxes with the content of the first one at a path changed; where there is none it is made at its parent's end."""
    kind, *deeper = path
    parts: list[bytes] = []
    there = False
    for found, content in (*children(view), (b"", view[:0])):
        if not there and found in (kind, b""):
            there = True
            parts.append(box(kind, changed(content, deeper, change) if deeper else change(content)))
        elif found:
            parts.append(box(found, content))
    return b"".join(parts)
