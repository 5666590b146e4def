"""fkp serve: its flags. They stand apart from what serves, which takes longer to load than `--help` may take."""

from __future__ import annotations

import argparse

from fkp.errors import run_command
from fkp.serve import TOKEN_VARIABLE
from fkp.serve.settings import Settings

PROFILES = ("fast", "plain")


def main(argv: list[str] | None = None) -> None:
    """Serve until interrupted, see `fkp.serve.launch`."""
    arguments = parse(argv)
    from fkp.serve.launch import run

    run(arguments)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    about = "Answer images over HTTP. Everything else is in serve/config.yaml: `serve deploy` takes it, on any Ray cluster."
    parser = argparse.ArgumentParser(prog="fkp serve", description=about)
    parser.add_argument("--host", default="127.0.0.1", help=f"address; any but loopback needs {TOKEN_VARIABLE} (default: %(default)s)")
    parser.add_argument("--port", default=8000, type=int, help="(default: %(default)s)")
    parser.add_argument(
        "--bundle",
        default="",
        help="folder, models:/fkp@champion or models:/fkp/3 (default: the registry's champion where "
        "MLFLOW_TRACKING_URI is set, else saved_models/champion)",
    )
    parser.add_argument("--detector", metavar="NAME", help=Settings.model_fields["detector"].description)
    parser.add_argument(
        "--profile",
        choices=PROFILES,
        help="fast: HAProxy in front; plain: Ray's proxy in Python, which waits for slow headers without end, so keep it behind a "
        "proxy that does not or on loopback (default: fast on Linux where it can be)",
    )
    parser.add_argument("--replicas", type=int, metavar="N", help="one core each (default: 2 to 4, as the load asks for)")
    parser.add_argument("--max-batch-size", type=int, metavar="N", help=Settings.model_fields["max_batch_size"].description)
    parser.add_argument("--max-in-progress", type=int, metavar="N", help=Settings.model_fields["max_in_progress"].description)
    allowed = Settings.model_fields["allowed_origins"].description
    parser.add_argument("--allowed-origins", nargs="+", metavar="ORIGIN", help=allowed)
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_command(main, "serve")
