"""What of a set stays together: persons, clips or folders as people name them, faces of one image, images that are nearly the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fkp.data.formats import Face
from fkp.data.near_duplicates import clusters_of
from fkp.errors import FkpError
from fkp.vision.fingerprint import Fingerprint

_COLUMN = "column:"


class Grouping:
    """By what faces are grouped.

    Args:
        asked: "image", "folder", "column:NAME" or a regular expression; None: as the labels say, or each image by itself.

    Attributes:
        column: Of a table, where that is asked.
        about: The rule in words.

    Raises:
        FkpError: It is no regular expression.
    """

    def __init__(self, asked: str | None) -> None:
        self._asked = asked
        self.column = asked.removeprefix(_COLUMN) if asked is not None and asked.startswith(_COLUMN) else None
        self._pattern: re.Pattern[str] | None = None
        if asked not in (None, "image", "folder") and self.column is None:
            try:
                self._pattern = re.compile(asked or "")
            except re.error as error:
                raise FkpError(f"--group {asked} is not image, folder, column:NAME or a regular expression: {error}") from error
        self._told = False

    @property
    def about(self) -> str:
        """The rule in words."""
        if self.column is not None:
            return f"by column {self.column}"
        if self._pattern is not None:
            return f"by the pattern {self._asked}"
        if self._asked is None:
            return "as the labels say" if self._told else "each image by itself (--group folder, column:NAME or a pattern makes others)"
        return "each image by itself" if self._asked == "image" else "by folder"

    def of(self, face: Face, name: str) -> str:
        """Group of a face by its labels or the name of its image, before any are joined.

        Args:
            face: As read.
            name: Of its image, below the folder that all share.

        Raises:
            FkpError: The rule gives it none.
        """
        self._told |= face.group is not None
        if self._pattern is not None:
            match = self._pattern.search(name)
            if match is None:
                raise FkpError(f"{face.where}: the pattern {self._asked} of --group is not found in {name}: write one that fits all")
            found = match[1] if match.re.groups else match[0]
            return _spelling(found or name)
        if self._asked == "folder":
            return _spelling(str(PurePosixPath(name).parent))
        if self.column is not None and face.group is None:
            raise FkpError(f"{face.where}: column {self.column} is empty, or the format has no columns: give each face a group")
        return _spelling(name if self._asked == "image" else face.group or name)

    def mend(self, before: int) -> str:
        """What to do where all faces are of one group.

        Args:
            before: Groups before any were joined.
        """
        if before > 1:
            return "the images are nearly the same, bring others"
        return "choose another --group (image, folder, column:NAME or a pattern)"


def joined_groups(own: Sequence[str], images_of: Sequence[Path], images: Sequence[Path], prints: Sequence[Fingerprint]) -> list[str]:
    """Group of each face when those of one image, and of images that are nearly the same, are one. It has the first of their names.

    Args:
        own: Group of each face.
        images_of: Image of each face.
        images: Every image once.
        prints: Of those.
    """
    number = {path: place for place, path in enumerate(images)}
    cluster = clusters_of(prints)[[number[path] for path in images_of]]
    names, group = np.unique(np.array(own, dtype=object).astype(str), return_inverse=True)
    # Groups and clusters are nodes, faces the links between them.
    size = len(names) + int(cluster.max()) + 1
    links = coo_array((np.ones(len(own), bool), (group, len(names) + cluster)), shape=(size, size))
    component = connected_components(links, directed=False)[1][: len(names)]
    _, first = np.unique(component, return_index=True)
    return names[first[component[group]]].tolist()


def _spelling(name: str) -> str:
    return unicodedata.normalize("NFC", name)
