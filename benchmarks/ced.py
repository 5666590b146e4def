"""Cumulative error of bundles side by side, as a picture: what part of the faces has at most which error.

python benchmarks/ced.py BUNDLE [BUNDLE ...] [--root DIR] [--part test|val] [--out docs/ced.png]

Identity split, box from the label, labels without their shift. The legend says the mean and the failures at 8 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fkp.config import DataConfig
from fkp.data import catalog as catalogs
from fkp.errors import run_command
from fkp.evaluate import PARTS, evaluate
from fkp.model.metrics import failure_pct
from fkp.predict import Predictor

_END_PCT = 12.0


def main() -> None:
    """Measure each bundle and draw one curve of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE")
    parser.add_argument("--root", default=None, help="the YouTube-Faces set (default: data/ytfaces)")
    parser.add_argument("--part", choices=PARTS, default="test")
    parser.add_argument("--out", type=Path, default=Path("out/ced.png"), help="default: %(default)s")
    arguments = parser.parse_args()
    data = DataConfig(source="ytfaces", root=arguments.root)
    catalog = catalogs.load(data)
    errors = {}
    for path in arguments.bundles:
        predictor = Predictor(path)
        errors[Path(path).resolve().name] = evaluate(predictor, catalog, data, predictor.bundle, arguments.part).nme_interocular_pct()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for name, nme in errors.items():
        label = f"{name}: NME {nme.mean():.2f} %, failures {failure_pct(nme, 8.0):.1f} %"
        print(label)
        axes.step(np.sort(nme), 100 * np.arange(1, len(nme) + 1) / len(nme), where="post", label=label)
    axes.axvline(8.0, color="#555", linewidth=1, linestyle=":")
    axes.set(xlim=(0, _END_PCT), ylim=(0, 101), xlabel="NME, % of the distance of the outer eye corners", ylabel="% of faces")
    axes.set_title(f"{len(next(iter(errors.values())))} {arguments.part} faces of persons that no training saw", fontsize=11)
    axes.legend(loc="lower right", frameon=False)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, metadata={"Software": None})


if __name__ == "__main__":
    run_command(main)
