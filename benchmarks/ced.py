"""Cumulative error of bundles side by side, as an image: what part of the faces has at most which error.

python benchmarks/ced.py BUNDLE [BUNDLE ...] [--root DIR] [--subset test|val] [--out docs/ced.png]

Identity split, box from the label, corrected labels. The legend says the mean and the failures at 8 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fkp.common.files import write
from fkp.config import DataConfig
from fkp.data.labels import load_labels
from fkp.errors import run_command
from fkp.evaluation.evaluate import SUBSETS, evaluate
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
    data = DataConfig(source="ytfaces", root=arguments.root)
    catalog = load_labels(data)
    curves = {}
    for path in arguments.bundles:
        predictor = Predictor(path)
        nme = evaluate(predictor, catalog, data, predictor.bundle, arguments.subset).nme_pct()
        curves[f"{Path(path).resolve().name}: NME {nme.mean():.2f} %, failures {failure_pct(nme, 8.0):.1f} %"] = nme
    print("\n".join(curves))
    write(arguments.out, cumulative_plot(curves, f"Cumulative error, identity split, {len(nme)} {arguments.subset} faces"))


if __name__ == "__main__":
    run_command(main)
