"""Registered models and unfinished uploads from the command line: fkp track list|register|promote|rollback|upload."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from fkp.errors import FkpError, run_command
from fkp.track.registry import ALIAS, MODEL_NAME, Registry
from fkp.track.trouble import without_password
from fkp.track.version import Version

_WIDTHS = (7, 10, 10, 10, 12, 16)


def main(argv: list[str] | None = None) -> int:
    """Run one command."""
    arguments = _parser().parse_args(argv)
    if arguments.command == "upload":
        return _upload(arguments.file, arguments.store)
    registry = Registry(arguments.name)
    if arguments.command == "list":
        print(format_versions(registry))
    elif arguments.command == "register":
        version = _register(registry, arguments.bundle, arguments.run, arguments.experiment)
        print(f"version {version.number} of {registry.name}: {version.bundle_artifacts}")
        if arguments.promote:
            _promote(registry, version.number, arguments.force)
    elif arguments.command == "promote":
        _promote(registry, arguments.version, arguments.force)
    else:
        print(_champion_line(registry.rollback()))
    return 0


def format_versions(registry: Registry) -> str:
    """The table of versions, the newest first."""
    versions = registry.versions()
    if not versions:
        return f"nothing is registered as {registry.name} in {without_password(registry.uri)}: `fkp track register BUNDLE`"
    champion = registry.champion_number()
    heads = ("version", "val NME %", "test NME %", "arch", "split", "registered", "")
    rows = [heads, *(_row(version, champion) for version in versions)]
    lines = ["  ".join([*(f"{cell:>{wide}}" for cell, wide in zip(row, _WIDTHS, strict=False)), row[-1]]).rstrip() for row in rows]
    note = f"Only the validation NME decides, and only on one split. Test NME: identity split, corrected labels. {ALIAS}: served."
    return "\n".join([*lines, "", note])


def _row(version: Version, champion: int | None) -> tuple[str, ...]:
    figures = [version.val_nme_pct, version.test_nme_pct]
    state = ALIAS if version.number == champion else "promoted" if version.marked else ""
    state = state if version.ours else f"{state} (not of fkp)".strip()
    return (
        str(version.number),
        *("-" if figure is None else f"{figure:.3f}" for figure in figures),
        version.tags.get("arch", "-"),
        version.split_digest[:12] or "-",
        time.strftime("%Y-%m-%d %H:%M", time.localtime(version.registered_ms / 1000)),
        state,
    )


def _register(registry: Registry, bundle_path: Path, run_id: str | None, experiment: str | None) -> Version:
    from fkp.bundle import open_bundle
    from fkp.track.mlflow_model import BUNDLE_FOLDER
    from fkp.track.run import recording

    if run_id is not None:
        return registry.register(bundle_path, run_id)
    bundle = open_bundle(bundle_path)
    if version := registry.registered(bundle):
        return version
    config = bundle.config.updated({"track.experiment": experiment} if experiment else {})
    with recording(config, {"bundle_digest": bundle.digest, "registered_from": str(bundle.path.absolute())}) as record:
        record.log_artifacts(bundle.path, BUNDLE_FOLDER)
        return registry.register(bundle_path, record.run_id)


def _promote(registry: Registry, number: int, force: bool) -> None:
    champion = registry.promote(number, force)
    if champion.number != number:
        print(f"version {number} was promoted, and at the same moment a better one:")
    print(_champion_line(champion))


def _champion_line(champion: Version | None) -> str:
    if champion is None:
        return f"no version is the {ALIAS} any more"
    nme = champion.val_nme_pct
    return f"version {champion.number} is the {ALIAS}: validation NME {'not known' if nme is None else f'{nme:.3f} %'}"


def _upload(file: Path, store: str | None) -> int:
    from fkp.track.write_ahead_log import upload

    done = upload(file, store)
    print(
        f"{done.delivered - done.refused} operations delivered"
        + (f", {done.refused} refused by MLflow and left out" if done.refused else "")
    )
    if done.left:
        why = done.trouble or "start MLflow"
        raise FkpError(f"{done.left} operations of {file} are not delivered: {why}, and run the same command again")
    return 0


def _parser() -> argparse.ArgumentParser:
    about = "Registered models, and records that MLflow has not got yet. MLFLOW_TRACKING_URI names the store."
    parser = argparse.ArgumentParser(prog="fkp track", description=about)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default=MODEL_NAME, help="of the registered model (default: %(default)s)")
    forced = argparse.ArgumentParser(add_help=False)
    forced.add_argument("--force", action="store_true", help="promote whatever the figures say; withdraws the promotions in the way")

    commands.add_parser("list", parents=[named], help="table of the registered versions")
    register = commands.add_parser("register", parents=[named, forced], help="register a bundle as a new version")
    register.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of the bundle")
    register.add_argument("--run", metavar="ID", help="MLflow run that made it (default: a new run)")
    register.add_argument("--track.experiment", dest="experiment", metavar="NAME", help="of that new run (default: as it was trained)")
    register.add_argument("--promote", action="store_true", help="then promote it")
    promote = commands.add_parser(
        "promote", parents=[named, forced], help=f"give a version the alias {ALIAS} if its validation NME is not worse"
    )
    promote.add_argument("version", type=int, metavar="VERSION", help="number of the version")
    commands.add_parser("rollback", parents=[named], help="withdraw the champion's promotion; the best one left takes its place")
    upload = commands.add_parser("upload", help="deliver what a training or a search has written while MLflow was lost")
    upload.add_argument("file", type=Path, metavar="FILE", help="the file that the command printed")
    upload.add_argument("--store", metavar="URI", help="where the store is now, if it has moved")
    return parser


if __name__ == "__main__":
    run_command(main)
