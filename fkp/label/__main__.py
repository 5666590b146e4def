"""fkp label PHOTOS --out SET [--model M] [--scheme S]: flags, and the server around `fkp.label.session`."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from fkp.errors import FkpError, run_command, stopping

if TYPE_CHECKING:
    from fkp.bundle import Bundle
    from fkp.label.imported import Imported
    from fkp.label.log import Log
    from fkp.label.photos import Photos

MODEL = "saved_models/champion"
BLIND, SURE_PCT = 0.05, 3.0


def main(argv: list[str] | None = None) -> None:
    """Serve the page until interrupted."""
    arguments = parse(argv)
    # Before numpy is loaded. Its matrices are small here, and on a busy machine threads that wait for each other make a hundred
    # milliseconds of each of the few that an answer takes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from fkp.common.files import exclusive
    from fkp.data.label_set import is_label_set
    from fkp.label.imported import Imported
    from fkp.label.log import LOG
    from fkp.label.photos import Photos
    from fkp.serve.http.security import is_loopback

    if not is_loopback(arguments.host):
        raise FkpError(f"fkp label shows photographs on this machine only, and {arguments.host} is no loopback address: use 127.0.0.1")
    out = arguments.out.resolve()
    if out.exists() and not (out / LOG).is_file() and (not out.is_dir() or any(path.name != ".lock" for path in out.iterdir())):
        raise FkpError(f"{arguments.out} exists and was not made by `fkp label`: choose another --out")
    imported = None
    if len(arguments.photos) == 1 and is_label_set(arguments.photos[0]):
        imported = Imported.of(Path(arguments.photos[0]))
        if imported.photos.paths and Path(arguments.photos[0]).resolve() == out:
            raise FkpError(f"{arguments.photos[0]} is --out itself: name the folder of the photographs")
    photos = imported.photos if imported else Photos.of(arguments.photos)
    if not (out / LOG).is_file() and not any(path.is_file() for path in photos.paths.values()):
        raise FkpError(f"{arguments.photos[0]} is not there: name a folder of photographs, or some of them")
    with listening(arguments.host, arguments.port) as server, exclusive(out, f"set {arguments.out}", "labelled", "choose another --out"):
        _serve(arguments, photos, out, imported, server)


def _serve(arguments: argparse.Namespace, photos: Photos, out: Path, imported: Imported | None, server: socket.socket) -> None:
    import uvicorn

    from fkp.label.app import build_app
    from fkp.label.session import Session

    log, bundle, model = open_log(out, arguments.model, arguments.scheme, arguments.blind, imported)
    session = Session(photos, out, log, bundle, model, imported, arguments.sure)
    try:
        port = server.getsockname()[1]
        token = secrets.token_urlsafe(24)
        hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]", arguments.host)}
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        print(f"{len(photos.paths)} photographs, model {model}, set {arguments.out}")
        print(f"open       http://{host}:{port}/#{token}", flush=True)
        config = uvicorn.Config(build_app(session, token, lambda: hosts), log_level="warning", lifespan="off", timeout_graceful_shutdown=3)
        with stopping.hint(f"all that you have set is in {arguments.out}: run the same command to go on"), stopping.kept():
            uvicorn.Server(config).run(sockets=[server])
    finally:
        session.close()


def open_log(out: Path, model: str | None, scheme: str | None, blind: float, imported: Imported | None) -> tuple[Log, Bundle, str]:
    """The log of a set, and the model that goes on: the one that is named, else the last one of the log.

    Raises:
        FkpError: The model cannot be opened, or has no point of the scheme.
    """
    from fkp.label.log import LOG, Log
    from fkp.scheme import load_scheme

    asked = load_scheme(scheme) if scheme is not None else None
    if (out / LOG).is_file() and (out / LOG).stat().st_size:
        log = Log(out, asked)
        name = model or (log.models[-1].name if log.models else MODEL)
        bundle = open_model(name)
    else:
        name = model or MODEL
        bundle = open_model(name)
        own = asked or (imported.scheme if imported else bundle.config.scheme)
        _check_schemes(own.places_in(bundle.config.scheme), own.name, bundle.config.scheme.name)
        log = Log(out, own, blind)
    _check_schemes(log.scheme.places_in(bundle.config.scheme), log.scheme.name, bundle.config.scheme.name)
    if imported and imported.scheme.landmarks != log.scheme.landmarks:
        raise FkpError(f"the labels are in scheme {imported.scheme.name} and {out} is in {log.scheme.name}: choose another --out")
    return log, bundle, name


def open_model(name: str) -> Bundle:
    """A bundle by its folder, or from the registry.

    Raises:
        FkpError: There is none.
    """
    from fkp.bundle import open_bundle

    if name.startswith("models:/") or (name == "champion" and not Path(name).exists()):
        from fkp.track.download import download, registry_address

        return open_bundle(download(registry_address(name) or name)[0])
    return open_bundle(name)


def _check_schemes(shared: object, labels: str, model: str) -> None:
    if not shared:
        raise FkpError(
            f"scheme {labels} has no landmark's name in common with the model's {model}: name them as there, or use another --model"
        )


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0: any that is free.

    Raises:
        FkpError: The address is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, port))
        server.listen(64)
    except OSError as error:
        server.close()
        raise FkpError(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}: choose another --port, or leave it out"
        ) from error
    return server


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    about = (
        "Label photographs by correcting what a model guesses, those faces first that tell most of the others: on a page on this machine, "
        "which the command prints the address of. The set is that of `fkp data import`; every change is on the disk at once."
    )
    parser = argparse.ArgumentParser(prog="fkp label", description=about)
    parser.add_argument(
        "photos", nargs="+", metavar="PHOTOS", help="folder (images at any depth), files or quoted patterns; or an imported set to correct"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="SET", help="the set; named again, the work goes on")
    parser.add_argument(
        "--model", metavar="M", help=f"a bundle's folder, models:/fkp/3 or champion (default: the last that was adapted here, else {MODEL})"
    )
    parser.add_argument("--scheme", help="of the labels: a built-in one or a YAML file (default: the model's)")
    parser.add_argument(
        "--blind",
        type=_share,
        default=BLIND,
        metavar="SHARE",
        help="part of the faces labelled with guesses hidden; they alone measure (default: %(default)s)",
    )
    parser.add_argument(
        "--sure",
        type=float,
        default=SURE_PCT,
        metavar="PCT",
        help="ask for points with a larger expected error, %% of the face's size (default: %(default)g)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address, loopback only (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="(default: any that is free)")
    return parser.parse_args(argv)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return share


if __name__ == "__main__":
    run_command(main, "label")
