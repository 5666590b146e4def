"""fkp data fetch | verify | stats | synth | import | export | pack"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from fkp.config import PACKED_SUFFIX, DataConfig, build_config, config_from_args
from fkp.errors import FkpError, run_command, stopping
from fkp.shipped import here_or_shipped

if TYPE_CHECKING:
    from fkp.data.packed_set import PackedSet

ROOT = Path("data/ytfaces")
MANIFEST = Path("data/manifest.csv")
#: Of each set that can be fetched.
_MANIFESTS = {
    "ytfaces": str(MANIFEST),
    "sfhq": "data/sfhq_manifest.csv.gz",
    "congress": "data/congress_manifest.csv.gz",
    "backgrounds": "data/backgrounds_manifest.csv.gz",
}

_FORMATS = """formats:
  pts          300-W: a .pts file beside each image, with or without its header; counted from 1
  imglab       dlib's imglab XML; counted from 0
  coco         COCO keypoints JSON; counted from 0
  wflw         WFLW's text, 98 points a line
  cvat         CVAT for images 1.1 XML: skeletons or points
  labelstudio  Label Studio's JSON or JSON-MIN: keypoint labels
  csv          a face a line; columns by their header: image, x_NAME and y_NAME (or NAME_x, x0, numbers), and if you like visible_NAME,
               group, subset, box_x0 to box_y1; without a header see --order
  frames       training_frames_keypoints.csv and test_frames_keypoints.csv beside training/ and test/
  fkp          a set that was imported before

--group takes the first bracket of a pattern that it finds in an image's path: --group '([^/_]+)_' makes Ada of clips/Ada_01.jpg."""


def main(argv: list[str] | None = None) -> None:
    """Run one subcommand.

    Raises:
        FkpError: Whatever the subcommand cannot do; the message is for the terminal.
    """
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if rest and args.command != "stats":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.rest = rest
    args.handler(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fkp data", description="Bring, check and describe sets of labelled faces.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    fetch = _command(commands, "fetch", _fetch, "download a set, or take it from a copy on this machine")
    fetch.add_argument(
        "--set",
        choices=_MANIFESTS,
        default="ytfaces",
        help="ytfaces: the YouTube-Faces keypoints; sfhq: faces of nobody, and congress: portraits, both for data.extra; "
        "backgrounds: photographs without faces (default: %(default)s)",
    )
    fetch.add_argument("--root", type=Path, help="where the set goes (default: data/ and the set's name)")
    fetch.add_argument(
        "--source", type=Path, metavar="DIR", help="use this folder, of sfhq and congress also a zip archive, instead of a download"
    )
    fetch.add_argument("--url", help="address of the archive, of backgrounds of the server of its repositories (default: upstream's)")
    fetch.add_argument("--retries", type=_count, help="further tries when the download breaks (default: 4)")
    fetch.add_argument("--manifest", help=f"what the set must be (default: {', '.join(_MANIFESTS.values())})")

    verify = _command(commands, "verify", _verify, "compare every labelled frame with the manifest, or a packed set with its own")
    verify.add_argument("--root", default=str(ROOT), help="folder of the set, or place of a packed one (default: %(default)s)")
    _add_manifest(verify)

    stats = _command(commands, "stats", _stats, "print what is in a set; further flags such as --data.test_fold are those of training")
    stats.add_argument("--root", help="short for --data.root")
    stats.add_argument("--source", choices=get_args(DataConfig.model_fields["source"].annotation), help="short for --data.source")

    synth = _command(commands, "synth", _synth, "draw a set of synthetic faces")
    synth.add_argument("--root", type=Path, default=Path("data/synthetic"), help="where the set goes (default: %(default)s)")
    for name in ("faces", "seed"):
        field = DataConfig.model_fields[f"synthetic_{name}"]
        synth.add_argument(f"--{name}", type=int, default=field.default, help=f"{field.description} (default: %(default)s)")

    bring = _command(commands, "import", _import, "make a set of your own labelled images; the labels' format and scheme are recognised")
    bring.formatter_class = argparse.RawDescriptionHelpFormatter
    bring.epilog = _FORMATS
    bring.add_argument("place", type=Path, metavar="SRC", help="folder or file of the labels")
    bring.add_argument("--out", type=Path, required=True, help="the new set")
    bring.add_argument("--format", help="pts, imglab, coco, wflw, cvat, labelstudio, csv, frames or fkp (default: recognised)")
    bring.add_argument("--scheme", help="built-in scheme or YAML file (default: one that has the points' names, or their number)")
    bring.add_argument("--images", type=Path, metavar="DIR", help="where the images lie, unless below SRC")
    bring.add_argument(
        "--group",
        metavar="RULE",
        help="what stays together in a split: image, folder, column:NAME, or a regular expression of the image's path",
    )
    bring.add_argument("--order", choices=("xyxy", "yxyx", "xxyy", "yyxx"), help="order of the coordinates in a CSV that does not say it")
    bring.add_argument(
        "--origin", type=float, choices=(0.0, 0.5, 1.0), help="coordinate of the first pixel's centre (default: the format's)"
    )
    bring.add_argument("--link", action="store_true", help="link the images (hard links) instead of copying them")
    bring.add_argument(
        "--skip-broken",
        action="store_true",
        help="leave out faces that cannot be used, instead of refusing all; a wrong line of *_frames_keypoints.csv is refused all the same",
    )

    export = _command(commands, "export", _export, "write an imported set in a format of other tools, with its images")
    export.add_argument("place", type=Path, metavar="SET", help="folder of an imported set")
    export.add_argument("--format", required=True, choices=("coco", "csv", "pts"), help="of the labels")
    export.add_argument("--out", type=Path, required=True, help="new folder")

    pack = _command(commands, "pack", _pack, "write a set into Parquet shards, for data.backend=stream")
    pack.add_argument("--root", default=str(ROOT), help="folder of the set (default: %(default)s)")
    pack.add_argument("--out", help=f"where the shards go, also s3:// or gs:// (default: the folder's name with {PACKED_SUFFIX})")
    pack.add_argument("--shard-mib", type=_size, default=64.0, metavar="MIB", help="size of a shard in MiB, about (default: %(default)g)")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, handler: Callable[[argparse.Namespace], None], about: str
) -> argparse.ArgumentParser:
    # No abbreviations: stats hands what it does not know to the Config, and `--sou` must not mean two things.
    parser = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
    parser.set_defaults(handler=handler)
    return parser


def _add_manifest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--manifest", type=here_or_shipped, default=str(MANIFEST), help="sha256 of every labelled frame (default: %(default)s)"
    )


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _size(text: str) -> float:
    if not (size := float(text)) > 0:
        raise ValueError("a size is larger than 0")
    return size


def _fetch(args: argparse.Namespace) -> None:
    from fkp.data import backgrounds, fetch, mosaics

    if args.source is not None and args.url is not None:
        raise FkpError("--source and --url exclude each other: name the one the set comes from")
    root, manifest = args.root or Path("data") / args.set, here_or_shipped(args.manifest or _MANIFESTS[args.set])
    if args.set == "ytfaces" and args.source is not None:
        frames, differing = fetch.adopt(args.source, root, manifest)
        print(f"{root}: {frames} labelled frames copied from {args.source}, all decode; {differing} differ from upstream's bytes")
        return
    upstream = mosaics.UPSTREAMS.get(args.set)
    url = args.url or (upstream.url if upstream else {"ytfaces": fetch, "backgrounds": backgrounds}[args.set].UPSTREAM_URL)
    print(f"fetching {args.source or url}", file=sys.stderr)
    retries = fetch.RETRIES if args.retries is None else args.retries
    then = ""
    with stopping.hint("what has come is kept; the same command continues"):
        if upstream:
            count, fetched = mosaics.fetch_faces(root, manifest, upstream, args.source, url, retries)
            what, then = f"{count} faces, cut and labelled", f"; train with them: --data.extra {root}"
        elif args.set == "backgrounds":
            count, fetched = backgrounds.fetch_photographs(root, manifest, args.source, url, retries)
            what = f"{count} photographs without faces,"
        else:
            what, fetched = "every labelled frame is", fetch.fetch(root, manifest, url, retries)
    how = "" if fetched else "; it was whole already, nothing was downloaded"
    print(f"{root}: {what} as in {manifest}{how}{then}")


def _verify(args: argparse.Namespace) -> None:
    from fkp.data import label_set, packed_set, verify

    if packed_set.is_packed(args.root):
        _verify_packed(packed_set.open_packed(args.root))
        return
    if label_set.is_label_set(args.root):
        raise FkpError(
            f"{args.root} is an imported set and no manifest lists it: `fkp data stats --root {args.root}` reads every image of it"
        )
    root, listed = Path(args.root), verify.read_manifest(args.manifest)
    if not root.is_dir():
        raise FkpError(f"there is no set at {root}: `fkp data fetch` brings it, or name its folder with --root")
    faults = verify.check(root, listed)
    for fault in faults:
        print(fault)
    if faults:
        kinds = [fault.what for fault in faults]
        summary = ", ".join(f"{what}: {kinds.count(what)}" for what in dict.fromkeys(kinds))
        sys.stdout.flush()
        raise FkpError(
            f"{args.root} is not the set of {args.manifest} ({len(listed)} frames; {summary}): "
            "`fkp data fetch` replaces it, unless you keep re-encoded frames on purpose"
        )
    print(f"{args.root}: all {len(listed)} labelled frames are as in {args.manifest}")


def _verify_packed(found: PackedSet) -> None:
    from fkp.data import packed_set

    faults = list(packed_set.faults(found))
    for fault in faults:
        print(fault)
    if faults:
        sys.stdout.flush()
        raise FkpError(f"{found.place} is not what was packed ({len(faults)} of {len(found.shards)} shards): copy or pack it again")
    print(f"{found.place}: all {len(found.shards)} shards are as packed: {len(found)} frames, digest {found.digest}")


def _stats(args: argparse.Namespace) -> None:
    from fkp.data import verify

    short = {"--data.root": args.root, "--data.source": args.source}
    flags = [text for flag, value in short.items() if value is not None for text in (flag, value)]
    config = config_from_args([*flags, *args.rest], "fkp data stats", "Print what is in a set.")
    for line in verify.describe(config.data).lines():
        print(line)


def _synth(args: argparse.Namespace) -> None:
    # The Config holds the bounds of both numbers.
    data = build_config({"data.synthetic_faces": args.faces, "data.synthetic_seed": args.seed}).data
    from fkp.data.synthetic.render import write_set

    write_set(args.root, data.synthetic_faces, data.synthetic_seed)
    print(f"{args.root}: {data.synthetic_faces} synthetic faces")


def _import(args: argparse.Namespace) -> None:
    from fkp.data.importer import Asked, import_set

    for line in import_set(Asked(**{name: value for name, value in vars(args).items() if name in Asked.__dataclass_fields__})):
        print(line)


def _export(args: argparse.Namespace) -> None:
    from fkp.data.exporter import export_set

    faces, images = export_set(args.place, args.format, args.out)
    print(f"{args.out}: {faces} faces in {images} images, format {args.format}")


def _pack(args: argparse.Namespace) -> None:
    from fkp.data import label_set
    from fkp.data.parquet.writer import pack

    out = args.out or args.root.rstrip("/") + PACKED_SUFFIX
    own = {"scheme": label_set.scheme_setting(Path(args.root))} if label_set.is_label_set(args.root) else {}
    found = pack(DataConfig(source="folder", root=args.root, **own), out, args.shard_mib)
    print(f"{out}: {len(found)} frames in {len(found.shards)} shards, digest {found.digest}")
    # The source says which shift the labels have.
    print(f"train on it: --data.source SOURCE --data.backend stream --data.root {out}; SOURCE is ytfaces, or folder for labels of your own")


if __name__ == "__main__":
    run_command(main)
