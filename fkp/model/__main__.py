"""fkp models: the registered architectures with their size under the default settings."""

from __future__ import annotations

import argparse

from fkp.config import build_config
from fkp.errors import run_command


def main(argv: list[str] | None = None) -> None:
    """Print one line an architecture and head."""
    about = "List the architectures, with their size under the default settings."
    argparse.ArgumentParser(prog="fkp models", description=about).parse_args(argv)
    from fkp.model.network import Network, names

    for arch in names():
        for head in ("direct", "heatmap"):
            settings: dict[str, object] = {"model.arch": arch, "model.head": head}
            if arch == "seed_cnn":
                if head == "heatmap":
                    continue
                settings |= {"input.size_px": 224}
            network = Network(build_config(settings))
            millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
            print(f"model.arch={arch:10} model.head={head:8} {millions:6.2f} M parameters")


if __name__ == "__main__":
    run_command(main)
