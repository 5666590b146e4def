"""A packed set: Parquet shards of labelled frames, for a disk that likes few large files, or a bucket.

A place (a folder, s3:// or gs://) with `packed.json` and shards. `packed.json` is written last: a place without it holds no
set. It lists each shard with its size and sha256, and its own sha256 is the digest of the set. A shard holds frames of one
fold and one CSV file, so that a worker that trains on some folds opens no other file; frames that follow each other have
nothing in common, for a worker reads them in groups. Each frame carries the sha256 of its bytes, and is compared with it
whenever it is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from fkp.common import storage
from fkp.errors import FkpError
from fkp.scheme import DEFAULT, Scheme, load_scheme

MANIFEST = "packed.json"
_KIND = "fkp packed set 1"

#: Frames that are read at once: half a megabyte of YouTube frames.
FRAMES_PER_GROUP = 32

#: Everything but the images and points: what `fkp.data.labels` is made of.
_LABELS = (
    pa.field("row", pa.int64(), nullable=False),  # In the set's own order.
    pa.field("part", pa.string(), nullable=False),
    pa.field("file", pa.string(), nullable=False),
    pa.field("identity", pa.string(), nullable=False),
    pa.field("video", pa.int32(), nullable=False),
    pa.field("frame", pa.int64(), nullable=False),
    pa.field("fold", pa.int8(), nullable=False),
)
_POINTS = "points_raw_px"
#: Names of the columns of labels.
LABELS = (*(field.name for field in _LABELS), _POINTS, "sha256")


def schema(scheme: Scheme) -> pa.Schema:
    """Columns of a shard."""
    points = pa.field(_POINTS, pa.list_(pa.float32(), 2 * len(scheme)), nullable=False)
    return pa.schema([*_LABELS, points, pa.field("sha256", pa.binary(32), nullable=False), pa.field("bytes", pa.binary(), nullable=False)])


#: Groups that stay in memory for a reader that goes frame by frame: 40 MB of YouTube frames.
_KEPT_GROUPS = 64


@dataclass(frozen=True)
class Shard:
    """One file. `part` and `fold` are those of all its frames."""

    file: str
    part: str
    fold: int
    frames: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class PackedSet:
    """A packed set whose list of shards has been read; its frames are looked at when they are asked for.

    Attributes:
        place: A folder or an address.
        labels_digest: `Catalog.digest` of the set that was packed.
        shards: Its files.
        digest: Hex sha256 of the list, and so of all there is.
        scheme: Of the points in the shards.
    """

    place: str
    labels_digest: str
    shards: tuple[Shard, ...]
    digest: str
    scheme: Scheme
    _kept: OrderedDict[tuple[int, int], pa.Table] = field(default_factory=OrderedDict, repr=False, compare=False)

    def __len__(self) -> int:
        return sum(shard.frames for shard in self.shards)

    def path(self, shard: int) -> str:
        """Where a shard lies."""
        return storage.join(self.place, self.shards[shard].file)

    def read_columns(self, shard: int, columns: Sequence[str]) -> pa.Table:
        """Some columns of a shard, but not `bytes`.

        Raises:
            FkpError: It cannot be read.
        """
        with self._opened(shard) as file:
            return file.read(list(columns))

    def read_group(self, shard: int, group: int) -> pa.Table:
        """Frames `group * FRAMES_PER_GROUP` and on of a shard, all columns.

        Raises:
            FkpError: It cannot be read, or a frame is not what was packed.
        """
        with self._opened(shard) as file:
            table = file.read_row_group(group)
        for name, sha256, data in zip(*(table.column(name) for name in ("file", "sha256", "bytes")), strict=True):
            if hashlib.sha256(data.as_buffer()).digest() != sha256.as_py():
                raise FkpError(f"{self.path(shard)}: frame {name} is not what was packed: copy the shard again, or pack the set again")
        return table

    def read_frame(self, shard: int, index: int) -> bytes:
        """The file's bytes of one frame of a shard.

        Raises:
            FkpError: See `read_group`.
        """
        group, place = divmod(index, FRAMES_PER_GROUP)
        table = self._kept.get((shard, group))
        if table is None:
            table = self._kept[shard, group] = self.read_group(shard, group)
            if len(self._kept) > _KEPT_GROUPS:
                self._kept.popitem(last=False)
        data: bytes = table.column("bytes")[place].as_py()
        return data

    @contextlib.contextmanager
    def _opened(self, shard: int) -> Iterator[pq.ParquetFile]:
        """A shard; what is wrong with it while the block runs becomes one sentence."""
        system, root = storage.open_place(self.place)
        try:
            with pq.ParquetFile(system.open_input_file(f"{root}/{self.shards[shard].file}")) as file:
                yield file
        except (pa.ArrowException, OSError) as error:
            raise FkpError(f"cannot read shard {self.path(shard)}: {' '.join(str(error).split())}: copy it again") from error


def is_packed(place: str) -> bool:
    """Whether a packed set lies there.

    Raises:
        FkpError: The place cannot be reached.
    """
    return _read(place) is not None


def open_packed(place: str) -> PackedSet:
    """Read the list of a packed set, and see that its shards are there and of the right size.

    Raises:
        FkpError: There is no packed set, the place cannot be reached, or a shard is missing or cut off.
    """
    content = _read(place)
    if content is None:
        raise FkpError(f"there is no packed set at {place}: `fkp data pack` makes one")
    try:
        fields = json.loads(content)
        if fields["kind"] != _KIND:
            raise ValueError(f"its kind is {fields['kind']!r} and not {_KIND!r}")
        shards = tuple(Shard(**entry) for entry in fields["shards"])
        found = PackedSet(
            place, fields["labels_digest"], shards, hashlib.sha256(content).hexdigest(), load_scheme(fields.get("scheme", DEFAULT))
        )
    except (ValueError, TypeError, KeyError) as error:
        raise FkpError(f"{storage.join(place, MANIFEST)} cannot be used ({error}): pack the set again") from error
    sizes = storage.sizes_bytes(place)
    for number, shard in enumerate(shards):
        size = sizes.get(shard.file)
        if size != shard.size_bytes:
            what = "is missing" if size is None else f"has {size} bytes and not {shard.size_bytes}"
            raise FkpError(f"shard {found.path(number)} {what}: copy it again, or pack the set again")
    return found


def to_json(labels_digest: str, shards: Sequence[Shard], scheme: str) -> bytes:
    """Content of `packed.json`; the scheme is as a Config keeps it."""
    fields = {"kind": _KIND, "labels_digest": labels_digest, "shards": [asdict(shard) for shard in shards]}
    fields |= {"scheme": scheme} if scheme != DEFAULT else {}  # What a set of before was, its digest included.
    return (json.dumps(fields, indent=1) + "\n").encode()


def faults(packed: PackedSet) -> Iterator[str]:
    """Read every shard whole and name those that are not what was packed."""
    for number, shard in enumerate(packed.shards):
        try:
            if hashlib.sha256(storage.read_bytes(packed.path(number))).hexdigest() != shard.sha256:
                yield f"{shard.file}: differs"
        except FkpError:
            yield f"{shard.file}: missing"


def _read(place: str) -> bytes | None:
    path = storage.join(place, MANIFEST)
    return storage.read_bytes(path) if storage.size_bytes(path) is not None else None
