"""A bundle on disk: whole or not at all, checked before use, and without pickle."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors import safe_open

from fkp.bundle import FACE_BOXES, FILES, JOINT_ERRORS, OPTIONAL, SUMS, Bundle, load_network, open_bundle, update_bundle, write_bundle
from fkp.common.checksums import write_sums
from fkp.config import Config
from fkp.errors import FkpError
from fkp.model.network import Network


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A bundle that may be broken."""
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "models" / "copy"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(path: Path, *says: str) -> None:
    with pytest.raises(FkpError) as caught:
        open_bundle(path)
    for part in (*says, str(path)):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


# --- what is in it ----------------------------------------------------------------------------------------------


def test_files(tiny_bundle: Bundle, tiny_config: Config) -> None:
    assert sorted(content(tiny_bundle.path)) == sorted([*FILES, SUMS])
    assert tiny_bundle.config == tiny_config
    assert tiny_bundle.metrics == {"val_nme_interocular_pct": 50.0}
    assert tiny_bundle.card == "# Tiny\n"
    assert json.loads((tiny_bundle.path / "config.json").read_text()) == tiny_config.model_dump(mode="json")
    assert tiny_bundle.digest == hashlib.sha256((tiny_bundle.path / SUMS).read_bytes()).hexdigest()


def test_everybody_may_read_it(tiny_bundle: Bundle) -> None:
    assert tiny_bundle.path.stat().st_mode & 0o777 == 0o755
    modes = {name: (tiny_bundle.path / name).stat().st_mode & 0o777 for name in (*FILES, SUMS)}
    assert set(modes.values()) == {modes["config.json"]}
    # What the umask of this process gives to any new file.
    probe = tiny_bundle.path.parent / "probe"
    probe.write_text("")
    assert modes["weights.safetensors"] == probe.stat().st_mode & 0o777


def test_sha256sum_agrees(tiny_bundle: Bundle, copy: Path) -> None:
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("needs the program sha256sum (coreutils)")
    whole = subprocess.run([program, "-c", SUMS], cwd=tiny_bundle.path, capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.count(": OK") == len(FILES)
    (copy / "card.md").write_text("changed")
    assert subprocess.run([program, "-c", SUMS], cwd=copy, capture_output=True, check=False).returncode == 1


def test_no_pickle(tiny_bundle: Bundle) -> None:
    for name, data in content(tiny_bundle.path).items():
        assert not name.endswith((".pt", ".pth", ".ckpt", ".pkl", ".bin"))
        assert not data.startswith(b"PK"), name  # What torch.save writes is a zip of pickles.
        assert name == "weights.safetensors" or not data.startswith(b"\x80"), name  # How a pickle begins.
    with safe_open(str(tiny_bundle.path / "weights.safetensors"), framework="numpy") as weights:
        assert set(weights.keys()) == set(Network(tiny_bundle.config).state_dict())


def test_the_weights_are_the_onnx(tiny_bundle: Bundle) -> None:
    network = load_network(tiny_bundle)
    assert not network.training
    session = onnxruntime.InferenceSession(str(tiny_bundle.onnx_path), providers=["CPUExecutionProvider"])
    crops = np.random.default_rng(0).integers(0, 256, (3, 1, 64, 64), np.uint8)
    points_px, scale_px = session.run(["points_px", "scale_px"], {"crops_u8": crops})
    with torch.no_grad():
        expected_points_px, expected_scale_px = network(torch.from_numpy(crops))
    assert np.abs(points_px - expected_points_px.numpy()).max() < 0.05
    np.testing.assert_allclose(scale_px, expected_scale_px.numpy(), rtol=1e-2)
    assert points_px.std() > 2  # The answers are not all the middle of the crop.


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    refused(copy, name, "differs from its checksum: copy the bundle again, do not serve it")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    refused(copy, f"cannot read {name} (No such file or directory): copy the bundle again")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_no_checksum_covers(copy: Path, name: str) -> None:
    lines = (copy / SUMS).read_text().splitlines()
    (copy / SUMS).write_text("\n".join(line for line in lines if not line.endswith(name)) + "\n")
    refused(copy, f"{SUMS} does not list {name}")


@pytest.mark.parametrize("sums", [b"", b"\xff\xfe\x00garbage", b"no two spaces\n"], ids=["empty", "binary", "words"])
def test_broken_checksums(copy: Path, sums: bytes) -> None:
    (copy / SUMS).write_bytes(sums)
    refused(copy, f"{SUMS} does not list")


def test_not_a_bundle(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "is not a bundle (no SHA256SUMS in it)")
    refused(tmp_path, "is not a bundle")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "is not a bundle")


def rewrite(folder: Path, name: str, text: str) -> None:
    """Change a file of a bundle, and its checksum with it."""
    (folder / name).write_text(text)
    write_sums(folder, (*FILES, *OPTIONAL))


def test_a_config_of_another_version(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["model"]["attention"] = True
    rewrite(copy, "config.json", json.dumps(config))
    with pytest.raises(FkpError, match=r"unknown setting model\.attention"):
        open_bundle(copy)


# --- writing ----------------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_bundle_is_not_overwritten(tmp_path: Path, tiny_config: Config, tiny_bundle: Bundle) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "precious.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    network = load_network(tiny_bundle)
    for place in ("photos", "file"):
        with pytest.raises(FkpError, match=rf"{place} exists and is not a bundle: choose another place"):
            write_bundle(tmp_path / place, network, tiny_config, {}, "")
    assert (tmp_path / "photos" / "precious.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "photos"]


def test_a_bundle_is_replaced_whole(copy: Path, tiny_config: Config, tiny_bundle: Bundle) -> None:
    network = load_network(tiny_bundle).train()
    torch.nn.init.constant_(network.head.temperature, 7.0)
    new = write_bundle(copy, network, tiny_config, {"a": 1}, "# Two\n")
    assert (new.metrics, new.card) == ({"a": 1}, "# Two\n")
    assert new.digest != tiny_bundle.digest
    assert (load_network(new).head.temperature == 7).all()
    assert network.training  # Exporting did not change the network that was given.
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_a_bundle_keeps_calibrations_of_detectors(copy: Path) -> None:
    assert open_bundle(copy).face_boxes == {}
    boxes = {"blazeface": [[0.0], [0.1], [0.9], [0.8]]}
    new = update_bundle(copy, {}, "", boxes)
    assert new.face_boxes == boxes
    assert update_bundle(copy, {"a": 1}, "").face_boxes == boxes  # They stay where none are given.
    (copy / FACE_BOXES).write_text("{}")
    refused(copy, FACE_BOXES, "differs from its checksum")
    (copy / FACE_BOXES).unlink()
    refused(copy, f"cannot read {FACE_BOXES}")


def test_a_bundle_keeps_joint_errors(copy: Path) -> None:
    assert open_bundle(copy).joint_errors == {}
    joint = {"share": 0.5, "lower": "AAAA"}
    assert update_bundle(copy, {}, "", joint_errors=joint).joint_errors == joint
    assert update_bundle(copy, {"a": 1}, "", {"blazeface": [[0.0]]}).joint_errors == joint
    (copy / JOINT_ERRORS).write_text("{}")
    refused(copy, JOINT_ERRORS, "differs from its checksum")


def test_update_changes_metrics_and_card_alone(copy: Path) -> None:
    before, digest = content(copy), open_bundle(copy).digest
    new = update_bundle(copy, {"test_nme_interocular_pct": 4.2}, "# Measured\n")
    assert (new.metrics, new.card) == ({"test_nme_interocular_pct": 4.2}, "# Measured\n")
    assert new.digest != digest
    after = content(copy)
    assert {name for name in before if before[name] != after[name]} == {"metrics.json", "card.md", SUMS}
    assert copy.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_what_a_link_names_is_updated(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(copy)
    update_bundle(tmp_path / "link", {"a": 1}, "card")
    assert (tmp_path / "link").is_symlink()
    assert open_bundle(copy).metrics == {"a": 1}
    assert {path.name for path in tmp_path.iterdir()} == {"link", copy.parent.name}


def test_update_with_the_same_card_keeps_it(copy: Path) -> None:
    before = content(copy)
    update_bundle(copy, {"a": 1}, open_bundle(copy).card)
    after = content(copy)
    assert {name for name in before if before[name] != after[name]} == {"metrics.json", SUMS}


def test_a_broken_bundle_is_not_updated(copy: Path) -> None:
    (copy / "model.onnx").write_bytes(b"broken")
    with pytest.raises(FkpError, match="differs from its checksum"):
        update_bundle(copy, {}, "")
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_a_place_that_cannot_be_written(tmp_path: Path, tiny_config: Config, tiny_bundle: Bundle) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FkpError, match=r"cannot write bundle .*: nothing was changed; free some space or choose another place"):
        write_bundle(tmp_path / "file" / "bundle", load_network(tiny_bundle), tiny_config, {}, "")


#: Writes past the limit fail like those on a full disk. The limits stop the config, the middle of the weights, and the
#: last byte of the largest file, one after the other.
FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from fkp.bundle import load_network, open_bundle, update_bundle, write_bundle
from fkp.errors import FkpError

torch.set_num_threads(1)
folder = Path(sys.argv[1])
bundle = open_bundle(folder)
network = load_network(bundle)
largest = max(file.stat().st_size for file in folder.iterdir())
weights_bytes = (folder / "weights.safetensors").stat().st_size

def write(place):
    write_bundle(place, network, bundle.config, {"new": 1}, "# New")

def update(place):
    update_bundle(place, {"new": 1}, "# New")

for limit, change, place in (
    (100, write, folder),
    (100, write, folder.with_name("other")),
    (weights_bytes // 2, write, folder),
    (largest - 1, write, folder),
    (100, update, folder),
    (largest - 1, update, folder),
):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        change(place)
    except FkpError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print("left:", *sorted(path.name for path in folder.parent.iterdir()), open_bundle(folder).digest)
"""


def test_a_full_disk_changes_nothing(copy: Path) -> None:
    pytest.importorskip("resource", reason="limits of file sizes are a matter of POSIX")
    before, digest = content(copy), open_bundle(copy).digest
    assert min(len(before["model.onnx"]), len(before["weights.safetensors"])) > 1000 > len(before["card.md"])
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(copy)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1::2] == [f"left: copy {digest}"] * 6
    for said in lines[::2]:
        assert said.startswith(f"cannot write bundle {copy.parent}")
        assert "File too large: nothing was changed; free some space or choose another place" in said
    assert content(copy) == before
