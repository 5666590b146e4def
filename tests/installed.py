"""What a person gets who installs the wheel: `make package-test`.

In a fresh environment of each Python that is there, the core annotates a photograph from an empty folder, and with the extra `serve`
the endpoint answers; sizes and times stand beside their limits. With `--debian`, as root, also in a fresh Debian 13 (debootstrap);
with `--image` the steps of cluster/Dockerfile are carried out in one, and its command runs there as its user, on a read-only file system.
Nothing beyond the standard library is imported: this file runs in the new environments' own Pythons, too.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import string
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
CORE_MB, PREDICT_S, HELP_S = 350, 0.7, 0.3
#: The best of so many: what else the machine does only adds.
TRIES = 7
VERBS = ("predict", "evaluate", "train", "adapt", "label", "tune", "serve", "data", "models", "track", "cluster", "demo")


def main() -> None:
    """Build the wheel where none is named, and try it."""
    parser = argparse.ArgumentParser(description="Install the wheel into fresh environments and try it.")
    parser.add_argument("--only", metavar="VERSION", help="of Python, such as 3.12; by default every one that is there")
    parser.add_argument("--debian", action="store_true", help="only in a fresh Debian 13: needs root and debootstrap")
    parser.add_argument("--image", action="store_true", help="only the steps of cluster/Dockerfile: needs root, debootstrap, iproute2")
    parser.add_argument("--inside", metavar="JSON", help=argparse.SUPPRESS)
    parser.add_argument("--core", action="store_true", help="leave the endpoint out")
    parser.add_argument("--wheel", type=Path, help="instead of building one")
    parser.add_argument("--python", help="instead of looking for some")
    arguments = parser.parse_args()
    if arguments.inside:
        try_inside(json.loads(arguments.inside))
        return
    with tempfile.TemporaryDirectory(prefix="fkp-installed-") as name:
        work = Path(name)
        wheel = arguments.wheel.resolve() if arguments.wheel else build(work)
        if arguments.debian:
            try_in_debian(wheel, work / "debian", ["--core"] if arguments.core else [])
            return
        if arguments.image:
            try_image(wheel, work / "image")
            return
        pythons = (
            [arguments.python] if arguments.python else [found for version in VERSIONS if (found := interpreter(version, arguments.only))]
        )
        if not pythons:
            raise SystemExit(f"there is no Python of {arguments.only or ', '.join(VERSIONS)} here")
        for python in pythons:
            environment = work / "environment"
            try_installed(python, wheel, environment, work, not arguments.core)
            shutil.rmtree(environment)
        fkp = Path(sys.executable).with_name("fkp")
        if fkp.exists():
            print(f"with everything installed ({sys.version.split()[0]})")
            for verb in VERBS:
                limit(f"fkp {verb} --help", best_s([str(fkp), verb, "--help"], work), HELP_S, "s")


def build(work: Path) -> Path:
    """Make the wheel as `pip install .` makes it."""
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(work / "dist"), str(ROOT)], work)
    (wheel,) = (work / "dist").glob("*.whl")
    limit("the wheel", wheel.stat().st_size / 1e6, 20, "MB")
    return wheel


def interpreter(version: str, only: str | None) -> str | None:
    """A Python of this version that runs; None where there is none or another one is asked for."""
    if only not in (None, version):
        return None
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *(str(path) for path in pyenv.glob(f"{version}.*/bin/python"))]
    for python in candidates:
        # A shim of pyenv stands in the PATH also for a version that it does not run.
        if python and subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True, check=False).returncode == 0:
            return python
    print(f"Python {version} is not here: left out")
    return None


def try_installed(python: str, wheel: Path, environment: Path, work: Path, with_endpoint: bool) -> None:
    """Install the core, annotate a photograph, install `serve`, ask the endpoint."""
    print(run([python, "--version"], work).strip(), flush=True)
    run([python, "-m", "venv", str(environment)], work)
    empty_mb = size_mb(environment)
    pip = [str(environment / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, str(wheel)], work)
    # Python 3.11's venv brings setuptools beside pip.
    print(f"  {'the environment, of which venv itself':40} {size_mb(environment):8.2f} MB, {empty_mb:.2f} MB")
    limit("the core", size_mb(environment) - empty_mb, CORE_MB, "MB")
    empty = work / "empty"
    shutil.rmtree(empty, ignore_errors=True)
    empty.mkdir()
    photo = empty / "photo.jpg"
    with zipfile.ZipFile(wheel) as content:
        photo.write_bytes(content.read("fkp/serve/golden/face.jpg"))
    fkp = str(environment / "bin/fkp")
    limit("fkp predict photo.jpg --out out", best_s([fkp, "predict", "photo.jpg", "--out", "out"], empty), PREDICT_S, "s")
    (found,) = json.loads((empty / "out/faces.json").read_text())["pictures"]
    expect(len(found["faces"]) == 1, "out/faces.json has one face")
    limit("fkp predict --help", best_s([fkp, "predict", "--help"], empty), HELP_S, "s")
    code = "from fkp import Predictor, read_image; print(len(Predictor()(read_image('photo.jpg'))))"
    expect(run([str(environment / "bin/python"), "-c", code], empty) == "1\n", "Predictor()(image) finds one face")
    refused = subprocess.run([fkp, "train"], cwd=empty, capture_output=True, text=True, check=False)
    expect(refused.returncode == 1 and refused.stderr.endswith(" pip install 'fkp[train]'\n"), "fkp train names the extra that it needs")
    if with_endpoint:
        run([*pip, f"{wheel}[serve]"], work)
        expect(not list(environment.glob("lib/*/site-packages/torch")), "the extra `serve` brings no torch")
        print(f"  {'with the extra `serve`':40} {size_mb(environment):8.0f} MB")
        limit("fkp serve --help", best_s([fkp, "serve", "--help"], empty), HELP_S, "s")
        ask_endpoint(fkp, empty)


def ask_endpoint(fkp: str, folder: Path) -> None:
    """Start `fkp serve`, post the photograph, and end it."""
    process = subprocess.Popen([fkp, "serve", "--port", "8765", "--replicas", "1"], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        started = any(line.startswith("http://") for line in iter(process.stdout.readline, ""))
        expect(started, "fkp serve starts")
        request = urllib.request.Request("http://127.0.0.1:8765/v1/keypoints", (folder / "photo.jpg").read_bytes(), method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            expect(len(json.load(answer)["faces"]) == 1, "the endpoint finds one face")
        print("  fkp serve answers", flush=True)
    finally:
        process.terminate()
        process.wait(timeout=120)


def try_in_debian(wheel: Path, root: Path, flags: Sequence[str]) -> None:
    """Run this file in a Debian 13 as small as it can be."""
    make_debian(root)
    place = root / "root/fkp"
    place.mkdir()
    for path in (wheel, Path(__file__)):
        shutil.copy(path, place)
    inside = 'mount -t proc proc /proc; mkdir -p /dev/shm; mount -t tmpfs tmpfs /dev/shm; cd /root/fkp; exec "$@"'
    command = ["unshare", "--mount", "--pid", "--fork", "chroot", str(root), "sh", "-c", inside, "sh"]
    command += ["python3", "installed.py", "--python", "python3", "--wheel", wheel.name, *flags]
    subprocess.run(command, check=True)


def make_debian(root: Path) -> None:
    """Make a Debian 13 with Python, and with this machine's way to the package index."""
    if os.geteuid() or not shutil.which("debootstrap"):
        raise SystemExit("this needs root and debootstrap: apt-get install debootstrap")
    packages = "--include=python3,python3-venv,ca-certificates"
    run(["debootstrap", "--variant=minbase", packages, "trixie", str(root)], root.parent)
    certificates = Path(os.environ.get("PIP_CERT", "/etc/ssl/certs/ca-certificates.crt"))
    for path in (Path("/etc/resolv.conf"), Path("/etc/hosts"), certificates, *pip_files()):
        if path.is_file():
            (root / path.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / path.relative_to("/"))


def dockerfile_stage(name: str) -> list[tuple[str, str]]:
    """The instructions of a stage of cluster/Dockerfile, each with what stands behind it."""
    lines = [line for line in (ROOT / "cluster/Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    stages = [place for place, line in enumerate(lines) if line.startswith("FROM ")]
    (first,) = [place for place in stages if lines[place].endswith(f" AS {name}")]
    end = min([place for place in stages if place > first], default=len(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines[first + 1 : end])]


#: As an engine starts a container: processes and a network of its own, no rights, nothing to write but /tmp and 1 GB of shared memory.
_CONTAINER = """
set -e
ip link set lo up
mount --bind "$0" "$0"
cd "$0"
mount -t proc proc proc
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p dev/shm
mount -t tmpfs -o mode=1777,size=1g tmpfs dev/shm
mount -o remount,bind,ro "$0"
user=$1
shift
exec chroot "$0" setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""


def try_image(wheel: Path, root: Path) -> None:
    """Carry out the last stage of cluster/Dockerfile on a Debian in place of its base, and start what it starts, without an engine."""
    make_debian(root)
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    told = {}
    for word, rest in dockerfile_stage("serve"):
        if word == "ARG":
            name, _, value = rest.partition("=")
            environment.setdefault(name, value)
        elif word == "ENV":
            pairs = (pair.partition("=") for pair in shlex.split(rest))
            environment |= {name: string.Template(value).substitute(environment) for name, _, value in pairs}
        elif word == "COPY":
            target = root / rest.split()[-1].strip("/")
            target.mkdir(parents=True, exist_ok=True)
            for source in [wheel] if rest.startswith("--from=wheel ") else [ROOT / name for name in rest.split()[:-1]]:
                shutil.copy(source, target)
        elif word == "RUN":
            subprocess.run(["chroot", str(root), "/bin/sh", "-c", rest], env={**os.environ, **environment}, check=True)
        else:
            told[word] = rest
    expect(set(told) == {"USER", "WORKDIR", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD"}, "every instruction is known here")
    shutil.copy(__file__, root / "opt")
    inside = {
        "start": json.loads(told["ENTRYPOINT"]) + json.loads(told["CMD"]),
        "health": json.loads(told["HEALTHCHECK"].partition(" CMD ")[2]),
        "folder": told["WORKDIR"],
    }
    command = ["unshare", "--mount", "--pid", "--net", "--fork", "sh", "-c", _CONTAINER, str(root), told["USER"].partition(":")[0]]
    own = {name: value for name, value in environment.items() if name != "EXTRAS"}
    subprocess.run([*command, "python3", "/opt/installed.py", "--inside", json.dumps(inside)], env=own, check=True)


def try_inside(told: dict[str, list[str]]) -> None:
    """Start what the image starts, and ask it; run as its user, in its file system."""
    expect(os.geteuid() == 1000, "the user has no rights")
    for place in ("/opt/fkp", "/etc", "/usr/local"):
        try:
            Path(place, "written").touch()
        except OSError as error:
            expect(error.errno == 30, f"{place} is on a read-only file system")
        else:
            expect(False, f"{place} cannot be written")
    refused = subprocess.run(told["start"], cwd=told["folder"], capture_output=True, text=True, check=False)
    expect(refused.returncode == 1 and "FKP_API_TOKEN" in refused.stderr, "without a token it is one sentence")
    os.environ["FKP_API_TOKEN"] = token = "0123456789abcdef"
    began = time.monotonic()
    log = Path("/tmp/stderr")
    with log.open("w") as errors:
        process = subprocess.Popen(told["start"], cwd=told["folder"], stderr=errors)
    try:
        while subprocess.run(told["health"], capture_output=True, check=False).returncode:
            if process.poll() is not None or time.monotonic() - began > 240:
                raise SystemExit(f"broken: the health check succeeds\n{log.read_text()}")
            time.sleep(1)
        print(f"  healthy after {time.monotonic() - began:.0f} s")
        photo = next(Path("/opt/fkp").glob("lib/*/site-packages/fkp/serve/golden/face.jpg")).read_bytes()
        request = urllib.request.Request("http://127.0.0.1:8000/v1/keypoints", photo, {"Authorization": f"Bearer {token}"}, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            expect(len(json.load(answer)["faces"]) == 1, "the endpoint finds one face")
        try:
            urllib.request.urlopen(urllib.request.Request(request.full_url, photo, method="POST"), timeout=60)
        except urllib.error.HTTPError as error:
            expect(error.code == 401, "a stranger is refused")
        else:
            expect(False, "a stranger is refused")
        expect("/dev/shm has only" not in log.read_text(), "Ray's object store fits into the shared memory")
        print(f"  /tmp holds {size_mb(Path('/tmp')):.0f} MB, /dev/shm {size_mb(Path('/dev/shm')):.0f} MB")
        print(f"  the image adds {size_mb(Path('/opt/fkp')):.0f} MB to its base")
    finally:
        process.terminate()
        began = time.monotonic()
        expect(process.wait(timeout=120) == 143, "SIGTERM ends it with status 143")
    print(f"  ended {time.monotonic() - began:.0f} s after SIGTERM", flush=True)


def pip_files() -> list[Path]:
    """pip's settings of this machine, and the files that they name."""
    pip = [sys.executable, "-m", "pip", "config"]
    debug, listed = (run([*pip, word], ROOT).splitlines() for word in ("debug", "list"))
    settings = [line.strip().removesuffix(", exists: True") for line in debug if line.endswith(", exists: True")]
    named = [line.partition("=")[2].strip("'") for line in listed]
    return [path for path in map(Path, (*settings, *named)) if path.is_absolute() and path.is_file()]


def run(command: Sequence[str], folder: Path) -> str:
    """What a command prints; its errors are shown, and it must succeed."""
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout


def best_s(command: Sequence[str], folder: Path) -> float:
    """Seconds of the whole process, at best, after a first run that reads everything from the disk."""
    seconds = []
    for _ in range(TRIES + 1):
        began = time.perf_counter()
        run(command, folder)
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def size_mb(folder: Path) -> float:
    """What the files of a folder take on the disk, in the MB of `du -m`."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.lstat().st_blocks * 512 for path in files) / 2**20


def limit(what: str, value: float, most: float, unit: str) -> None:
    """Print a figure beside its limit, and end where it is beyond."""
    print(f"  {what:40} {value:8.2f} {unit} of at most {most:g}", flush=True)
    expect(value <= most, f"{what} stays within {most:g} {unit}")


def expect(holds: bool, promise: str) -> None:
    """End where a promise is broken."""
    if not holds:
        raise SystemExit(f"broken: {promise}")


if __name__ == "__main__":
    main()
