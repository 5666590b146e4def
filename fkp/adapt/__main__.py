"""fkp adapt SET --out DIR [--model M] [--data.scheme S] [--ways map tune both] [--force]"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from fkp.errors import run_command


def main(argv: list[str] | None = None) -> None:
    """Adapt a model to a labelled set, say whether it helps, and how to use what was written."""
    arguments = _parser().parse_args(argv)
    # Before numpy is loaded: the map's matrices are small, and on a busy machine threads that wait for each other take longer than one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from fkp.adapt.pipeline import adapt
    from fkp.adapt.report import lines
    from fkp.adapt.ways import TRIED
    from fkp.config import build_config
    from fkp.data.label_set import is_label_set, scheme_setting

    scheme = arguments.scheme
    if scheme is None and is_label_set(arguments.set):
        scheme = scheme_setting(Path(arguments.set))
    data = build_config({"data.source": "folder", "data.root": arguments.set}, {} if scheme is None else {"data.scheme": scheme}).data
    adapted = adapt(data, arguments.model, arguments.out, arguments.ways or TRIED, seed=arguments.seed, force=arguments.force)
    print("\n".join(lines(adapted.summary)))
    print(f"report     {adapted.report_path}")
    if not adapted.summary["helps"]:
        kept = (
            "written all the same"
            if adapted.bundle
            else "no model was written: go on with the model of before, label more faces, or use --force"
        )
        print(f"It does not help: on groups that were held out the gain may be chance; {kept}.")
    if adapted.bundle is not None:
        print(f"model      {adapted.bundle.path}")
        print(f"use it     fkp predict PHOTO --out out --bundle {arguments.out}")
        print(f"serve it   fkp serve --bundle {arguments.out}")
        print(f"promote it fkp track register {arguments.out} --promote --force")
    if adapted.undelivered:
        print(f"warning: {adapted.undelivered}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    about = (
        "Bring a trained model to labels of your own: correct its points by a map of the shape, or train it further as well, whichever "
        "cross-validation over groups says is best. In this process, on all its cores; no cluster is needed."
    )
    parser = argparse.ArgumentParser(prog="fkp adapt", description=about)
    parser.add_argument("set", metavar="SET", help="folder of the labelled set, see `fkp data import`")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the model; the reports are DIR-report.json and .html")
    parser.add_argument(
        "--model",
        default="saved_models/champion",
        help="begin from this one: a bundle's folder, models:/fkp/3 or champion (default: %(default)s)",
    )
    parser.add_argument(
        "--scheme", "--data.scheme", dest="scheme", help="of the labels: a built-in one or a YAML file (default: the set's own)"
    )
    parser.add_argument(
        "--ways", nargs="+", choices=("map", "tune", "both"), help="what to try (default: map both): map takes seconds, the others minutes"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the training's order and augmentation (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="write the model also where it does not help")
    return parser


if __name__ == "__main__":
    run_command(main, "train")
