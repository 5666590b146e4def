"""What a reader of labels asks for: where an image lies, and whom to tell what is wrong."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from fkp.data.label_set import is_label_set
from fkp.errors import FkpError

#: Of the images that OpenCV reads.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".ppm", ".pgm"})


@dataclass
class Source:
    """The place that is imported.

    Attributes:
        place: Folder or file.
        images: A further folder of images.
        order: Of coordinates whose columns do not say it: xyxy, yxyx, xxyy or yyxx.
        group_column: Column of a table that holds the group.
        scheme: That is asked for.
        faults: Faces that cannot be used, (where, why).
        left_out: What is no face to learn from, (where, why).
    """

    place: Path
    images: Path | None = None
    order: str | None = None
    group_column: str | None = None
    scheme: str | None = None
    faults: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The folder that is imported, or that of the file."""
        return self.place if self.place.is_dir() else self.place.parent

    @cached_property
    def files(self) -> list[Path]:
        """Every file of the place that may hold labels or an image, sorted.

        Raises:
            FkpError: There is no such place.
        """
        if self.place.is_file():
            return [self.place]
        if not self.place.is_dir():
            raise FkpError(f"{self.place} is neither a folder nor a file: name the place of your labels")
        return sorted(_walk(self.place))

    @cached_property
    def all_images(self) -> list[Path]:
        """Every image of the place and of `images`, by its name's suffix."""
        folders = dict.fromkeys([self.root, *([self.images] if self.images else [])])
        every = dict.fromkeys(path for folder in folders for path in (self.files if folder == self.place else _walk(folder)))
        return [path for path in every if path.suffix.lower() in IMAGE_SUFFIXES]

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in self.all_images:
            found.setdefault(_spelling(path.name), []).append(path)
        return found

    def beside(self, folder: Path, stem: str) -> list[Path]:
        """The images of a folder below the place that have a name, with or without their suffix."""
        return self._by_stem.get((folder, stem), [])

    @cached_property
    def _by_stem(self) -> dict[tuple[Path, str], list[Path]]:
        found: dict[tuple[Path, str], list[Path]] = {}
        for path in self.all_images:
            for name in (path.stem, path.name):
                found.setdefault((path.parent, name), []).append(path)
        return found

    def has(self, name: str) -> bool:
        """Whether an image of this name lies anywhere below the place or `images`."""
        return _spelling(name) in self._by_name

    def head(self, path: Path, size: int) -> bytes:
        """First bytes of a file.

        Raises:
            FkpError: It cannot be read.
        """
        try:
            with path.open("rb") as file:
                return file.read(size)
        except OSError as error:
            raise FkpError(f"cannot read {path}: {error.strerror or error}") from error

    def read(self, path: Path) -> bytes:
        """Content of a file.

        Raises:
            FkpError: It cannot be read.
        """
        return self.head(path, -1)

    def text(self, path: Path) -> str:
        """Content of a text file: UTF-8, or Latin-1 where it is none.

        Raises:
            FkpError: It cannot be read.
        """
        content = self.read(path)
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            return content.decode("latin-1")

    def short(self, path: Path) -> str:
        """A file's name for people: below the place."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def image(self, name: str, beside: Path, where: str) -> Path | None:
        """The image that a file of labels names; None, and a fault, where there is none.

        It may lie where the name says, seen from the file of labels, or anywhere below the place or `--images`: then the file of the
        same name whose folders agree most counts.

        Args:
            name: As the labels have it.
            beside: Their folder.
            where: They stand.
        """
        named = PurePosixPath(name.replace("\\", "/").strip())
        for folder in (beside, *([self.images] if self.images else [])):
            if named.name and (path := folder / named).is_file():
                return path
        found = self._by_name.get(_spelling(named.name), [])
        agree = [_agreement(path, named) for path in found]
        best = [path for path, parts in zip(found, agree, strict=True) if parts == max(agree)]
        if len(best) == 1:
            return best[0]
        if best:
            told = " and ".join(self.short(path) for path in best[:2])
            self.faults.append((where, f"image {name} may be {told}: name the folder of images with --images"))
        else:
            self.faults.append((where, f"image {name or 'without a name'} is missing: bring it, or name its folder with --images"))
        return None


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if is_label_set(folder) and Path(folder) != root:  # It was imported from here before.
            folders.clear()
            continue
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _spelling(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _agreement(path: Path, named: PurePosixPath) -> int:
    """How many parts of two paths are equal, from the end."""
    pairs = zip(reversed(path.parts), reversed(named.parts), strict=False)
    return next((count for count, (one, other) in enumerate(pairs) if _spelling(one) != _spelling(other)), len(named.parts))
