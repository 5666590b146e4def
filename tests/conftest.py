"""What many tests share: a synthetic set, small runs, one Ray cluster, a tiny bundle, real frames where they are."""

from __future__ import annotations

import csv
import json
import logging
import os
import resource
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch

from fkp.bundle import Bundle, write_bundle
from fkp.config import Config, DataConfig, build_config
from tests.leftovers import Leftovers
from tests.needs import missing, needed
from tests.processes import Process

if TYPE_CHECKING:
    from selenium import webdriver

torch.set_num_threads(1)

REPO = Path(__file__).resolve().parents[1]
REAL_SETS = [REPO / "data/ytfaces", REPO.parent / "shared/data/P1_Facial_Keypoints/data"]

#: File name -> (image, (68, 2) labels), for one of the two CSV files of a set.
Frames = Mapping[str, tuple[np.ndarray, np.ndarray]]


#: Groups of tests that run one after the other in one process, longest first; `make test` shares them out in this order.
LONGEST = ("ray", "processes", "browser", "tests/serve/ingress/test_haproxy.py")

#: Fixture -> group of the tests that use it: there is one of it for the whole run.
DEAR = {"ray_cluster": "ray", "start_process": "processes", "run_process": "processes", "driver": "browser"}

_LIMIT_S = 5.0
_LEFTOVERS: pytest.StashKey[Leftovers] = pytest.StashKey()
_FOUND: pytest.StashKey[list[str]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Give the run a home and a folder for temporary files of its own; xdist's processes inherit both."""
    if not hasattr(config, "workerinput"):
        config.stash[_LEFTOVERS] = Leftovers(REPO)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Keep together what shares something dear, and a file's tests besides; begin with what takes longest."""
    for item in items:
        for mark in (*item.iter_markers("slow"), *item.iter_markers("over_5s")):
            if not mark.args:
                raise pytest.UsageError(f"{item.nodeid} is marked {mark.name} without a reason: {mark.name}(why)")
        if item.get_closest_marker("xdist_group") is None:
            dear = [group for fixture, group in DEAR.items() if fixture in getattr(item, "fixturenames", ())]
            item.add_marker(pytest.mark.xdist_group(dear[0] if dear else str(item.path.relative_to(REPO))))
    yield  # xdist reads the groups in here, and the order is shuffled.
    rank = {group: place for place, group in enumerate(LONGEST)}

    def place_of(item: pytest.Item) -> tuple[int, int]:
        mark = item.get_closest_marker("xdist_group")
        # Those on three hosts build on each other, in the order of their file.
        line = (item.location[1] or 0) if item.get_closest_marker("hosts") else 0
        return rank.get(mark.args[0] if mark else "", len(rank)), line

    items.sort(key=place_of)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Fail the run for what it leaves behind."""
    yield  # xdist ends its processes in here.
    leftovers = session.config.stash.get(_LEFTOVERS, None)
    if leftovers is None:
        return
    session.config.stash[_FOUND] = found = leftovers.find()
    if found and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        leftovers.remove()


@pytest.hookimpl(trylast=True)  # What fails a run stands where one looks first: at its end.
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what was left behind, the tests that take long and do not say why, and where a failed run keeps its files."""
    leftovers = config.stash.get(_LEFTOVERS, None)
    if leftovers is not None and leftovers.kept:
        terminalreporter.write_line(f"the temporary files of this run are kept in {leftovers.temp}")
    if found := config.stash.get(_FOUND, []):
        terminalreporter.section("left behind by the tests", red=True)
        terminalreporter.write_line("\n".join(found))
    calls = [report for report in terminalreporter.getreports("passed") if report.when == "call" and report.duration > _LIMIT_S]
    if unsaid := [report for report in calls if not {"over_5s", "slow", "hosts"} & set(report.keywords)]:
        terminalreporter.section(f"over {_LIMIT_S:g} s without a reason: mark it over_5s(why) or slow(why)", yellow=True)
        terminalreporter.write_line("\n".join(f"{report.duration:6.1f} s  {report.nodeid}" for report in unsaid))


@pytest.fixture(scope="session")
def real_root() -> Path:
    """The YouTube-Faces set; tests that need it are skipped where it is not."""
    named = [Path(os.environ["FKP_REAL_DATA"])] if "FKP_REAL_DATA" in os.environ else []
    for root in [*named, *REAL_SETS]:
        if (root / "training_frames_keypoints.csv").is_file():
            return root
    pytest.skip("the YouTube-Faces frames are not there: `fkp data fetch` brings them, or name their folder in FKP_REAL_DATA")


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 synthetic faces of 30 persons; made in seconds."""
    from fkp.data.synthetic import render

    root = tmp_path_factory.mktemp("synthetic") / "set"
    render.write_set(root, faces=160, seed=7)
    return root


@pytest.fixture(scope="session")
def packed_root(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same faces in Parquet shards, one group of frames in each."""
    from fkp.data.parquet.writer import pack

    place = tmp_path_factory.mktemp("packed") / "set"
    pack(DataConfig(source="folder", root=str(synthetic_root)), str(place), 0.2)
    return place


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray cluster of four declared cores for the whole session of tests."""
    import ray

    import fkp.cluster.capacity  # noqa: F401  Sets Ray's environment before it starts.

    ray.init(num_cpus=4, dashboard_host="127.0.0.1", logging_level=logging.ERROR, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def ray_address(ray_cluster: None) -> str:
    """Of that cluster, for RAY_ADDRESS of other processes."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """`start_process("fkp.predict", "photo.jpg", cwd=folder, MLFLOW_TRACKING_URI=...)` is `fkp predict photo.jpg`.

    Arguments in capitals change the environment; `without` names variables that are left out of it. What still runs at the test's
    end is killed.
    """
    started: list[Process] = []

    def begin(*args: object, cwd: Path | None = None, without: Sequence[str] = (), **environment: str) -> Process:
        inherited = {name: value for name, value in os.environ.items() if name not in without}
        process = Process([str(arg) for arg in args], cwd or Path.cwd(), {**inherited, **environment}, tmp_path / f"process{len(started)}")
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()


@pytest.fixture
def run_process(start_process: Callable[..., Process]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same, and wait for its end: what `subprocess.run` returns."""
    return lambda *args, **options: start_process(*args, **options).completed()


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Debian's chromium, without a window, for every page; its camera shows one drawn face, over and over."""
    import PIL.Image
    from selenium import webdriver

    from fkp.data.synthetic import render

    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if None in programs:
        missing("no browser: `apt-get install chromium chromium-driver` brings it")
    folder = tmp_path_factory.mktemp("chromium")
    film = folder / "camera.mjpeg"
    frame = PIL.Image.fromarray(render.frame_of(5, seed=7)[2]).resize((320, 384))
    with film.open("wb") as handle:
        for _ in range(3):
            frame.save(handle, "JPEG", quality=95)
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in (
        "--headless=new",
        "--no-sandbox",  # Containers and root have no sandbox to offer; the browser sees this repository's pages only.
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1280,1000",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
        f"--user-data-dir={folder / 'profile'}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(folder), "download.prompt_for_download": False})
    started = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    yield started
    started.quit()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    """An S3 server with the buckets `runs` and `forbidden`: the environment of a user who may use all but the second."""
    import requests

    boto3 = needed("boto3", "no client for an S3 server")
    server = needed("moto.server", "no S3 server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    anyone = {"endpoint_url": url, "region_name": "us-east-1", "aws_access_key_id": "any", "aws_secret_access_key": "any"}
    for name in ("runs", "forbidden"):
        boto3.client("s3", **anyone).create_bucket(Bucket=name)
    iam = boto3.client("iam", **anyone)
    iam.create_user(UserName="user")
    key = iam.create_access_key(UserName="user")["AccessKey"]
    rules = [
        {"Effect": "Allow", "Action": "s3:*", "Resource": "*"},
        {"Effect": "Deny", "Action": "s3:*", "Resource": ["arn:aws:s3:::forbidden", "arn:aws:s3:::forbidden/*"]},
    ]
    iam.put_user_policy(UserName="user", PolicyName="some", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": rules}))
    requests.post(f"{url}/moto-api/reset-auth", data="0", timeout=10).raise_for_status()  # From now on it looks at the key.
    yield {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
    requests.post(f"{url}/moto-api/reset-auth", data="inf", timeout=10).raise_for_status()
    server.stop()


@pytest.fixture
def bucket(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of an empty bucket's folder that this process may use, and what it starts."""
    from fkp.common import storage

    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    storage.open_place.cache_clear()
    yield f"s3://runs/{uuid.uuid4().hex}"
    storage.open_place.cache_clear()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables; to make one takes seconds, to copy it none."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def small_run_in(synthetic_root: Path) -> Callable[..., Config]:
    """Make the Config of a run that takes seconds: `small_run_in(folder, optim__lr=0.01)`."""
    from fkp.train.pipeline import with_absolute_paths

    def make(folder: Path, **changes: Any) -> Config:
        settings: dict[str, Any] = {
            "data": {
                "source": "synthetic",
                "root": str(synthetic_root),
                "cache_dir": str(folder / "cache"),
                "synthetic_faces": 160,
                "synthetic_seed": 7,
            },
            "input.size_px": 64,
            "model": {"width": 8, "depth": 1},
            "optim": {"global_batch_size": 16, "ema_decay": 0.9},
            "train": {"epochs": 3, "precision": "fp32"},
            "scale": {"num_workers": 0},
            "track": {"storage": str(folder / "runs"), "run_name": "small"},
        }
        return with_absolute_paths(build_config(settings, {key.replace("__", "."): value for key, value in changes.items()}))

    return make


@pytest.fixture
def small_run(small_run_in: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """The same in a folder and a record of the test's own: `small_run(optim__lr=0.01)`."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return lambda **changes: small_run_in(tmp_path, **changes)


@pytest.fixture(scope="session")
def tiny_config(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run of a network that answers in milliseconds, in this process; its crop cache is shared by all tests."""
    return build_config(
        {
            "data.source": "synthetic",
            "data.root": str(synthetic_root),
            "data.cache_dir": str(tmp_path_factory.mktemp("cache")),
            "input.size_px": 64,
            "model": {"arch": "resnet", "width": 8, "depth": 1, "head": "heatmap"},
            "optim.global_batch_size": 16,
            "train": {"epochs": 1, "precision": "fp32"},
            "scale": {"num_workers": 0, "use_gpu": "no"},
            "track.storage": str(tmp_path_factory.mktemp("runs")),
        }
    )


@pytest.fixture(scope="session")
def tiny_bundle(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of an untrained network. Read only: a test that changes it copies it first."""
    from fkp.model.network import Network

    torch.manual_seed(0)
    network = Network(tiny_config)
    # Untrained maps are flat, and their expectation the middle of any crop. Steep ones follow what the crop shows.
    torch.nn.init.constant_(network.head.temperature, 40.0)
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny", network, tiny_config, {"val_nme_interocular_pct": 50.0}, "# Tiny\n")


@pytest.fixture(scope="session")
def unbelieved() -> np.ndarray:
    """A drawn face whose lower half stands above the upper one: the detector finds it, and the shipped networks do not believe it."""
    from fkp.data.synthetic.render import frame_of

    image = frame_of(224, 23)[2]
    return np.roll(image, -(len(image) // 2), axis=0)


@pytest.fixture
def file_limit() -> Iterator[Callable[[int], None]]:
    """`file_limit(4096)`: until the test's end no file of this process grows beyond so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda limit_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="session")
def write_frames() -> Callable[[Path, Frames, Frames], Path]:
    """`write_frames(root, training, test)` writes a set of PNG frames in the upstream layout and returns `root`."""

    def write(root: Path, training: Frames, test: Frames) -> Path:
        for part, frames in (("training", training), ("test", test)):
            (root / part).mkdir(parents=True)
            with (root / f"{part}_frames_keypoints.csv").open("w", newline="") as handle:
                table = csv.writer(handle)
                table.writerow(["", *range(136)])
                for name, (image, points_px) in frames.items():
                    table.writerow([name, *np.asarray(points_px).ravel().tolist()])
                    encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
                    (root / part / name).write_bytes(encoded.tobytes())
        return root

    return write
