"""Cumulative error of bundles side by side, as an image: what part of the faces has at most which error.

python benchmarks/ced.py BUNDLE [BUNDLE ...] [--root DIR] [--subset test|val] [--out docs/images/ced.png]

Identity split, box from the label, corrected labels. The legend says the mean and the failures at 8 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fkp.common.files import write
from fkp.config import DataConfig
from fkp.data.labels import load_labels
from fkp.errors import run_command
from fkp.evaluation.evaluate import SUBSETS, Subset, evaluate
from fkp.evaluation.metrics import failure_pct
from fkp.evaluation.report import cumulative_plot
from fkp.predict import Predictor


def main() -> None:
    """Measure each bundle and draw one curve of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE")
    parser.add_argument("--root", default=None, help="the YouTube-Faces set (default: data/ytfaces)")
    parser.add_argument("--subset", "--part", choices=SUBSETS, default="test")
    parser.add_argument("--out", type=Path, default=Path("out/ced.png"), help="default: %(default)s")
    arguments = parser.parse_args()
    write(arguments.out, curves(arguments.bundles, arguments.root, arguments.subset))


def curves(bundles: Sequence[str], root: str | None, subset: Subset) -> bytes:
    """PNG: one curve of each bundle, on the set in a folder; the labels are printed, too."""
    data = DataConfig(source="ytfaces", root=root)
    catalog = load_labels(data)
    found = {}
    for path in bundles:
        predictor = Predictor(path)
        nme = evaluate(predictor, catalog, data, predictor.bundle, subset).nme_pct()
        found[f"{Path(path).resolve().name}: NME {nme.mean():.2f} %, failures {failure_pct(nme, 8.0):.1f} %"] = nme
    print("\n".join(found))
    return cumulative_plot(found, f"Cumulative error, identity split, {len(nme)} {subset} faces")


if __name__ == "__main__":
    run_command(main)
