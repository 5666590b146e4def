"""The crop cache (made once, shared, never half) and the batches that Lightning gets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from fkp.config import Config
from fkp.data import crop_cache, splits
from fkp.data.crop_cache import CropCache, open_cache
from fkp.data.datamodule import FacesDataModule
from fkp.data.labels import load_labels, root_of
from fkp.errors import FkpError
from fkp.vision import image as images
from fkp.vision.augment import WIDE, wide_size_px
from fkp.vision.crop import Crop, box_of_points
from tests.faces import face

FACES_PER_PERSON = 3


def person(fold: int, number: int = 0) -> str:
    names = (f"Person{i}" for i in range(1000))
    return [name for _, name in zip(range(200), names, strict=False) if splits.fold_of(name) == fold][number]


def blob_face(points_px: np.ndarray, seed: int) -> np.ndarray:
    """A dark noisy 120 x 140 image with a bright blob on point 0, which lies apart from the others."""
    y, x = np.mgrid[:120, :140]
    blob = 230 * np.exp(-((x - points_px[0, 0]) ** 2 + (y - points_px[0, 1]) ** 2) / (2 * 3.0**2))
    noise = np.random.default_rng(seed).integers(0, 12, (120, 140))
    return np.repeat((blob + noise).astype(np.uint8)[..., None], 3, axis=-1)


def points_of(seed: int) -> np.ndarray:
    return face(70, 45, 28, seed)


@pytest.fixture
def small(tmp_path: Path, tiny_config: Config, write_frames: Callable[..., Path]) -> Callable[..., Config]:
    """`small(shift_px)` writes a set of one person a fold, whose labels are shifted, and returns its Config."""

    def make(shift_px: tuple[float, float] = (0.0, 0.0), **changes: Any) -> Config:
        frames = {}
        for fold in range(splits.NUM_FOLDS):
            for number in range(FACES_PER_PERSON):
                points_px = points_of(10 * fold + number)
                frames[f"{person(fold)}_0{number}.jpg"] = (blob_face(points_px, number), points_px + shift_px)
        root = write_frames(tmp_path / "set", frames, {})
        data = {"source": "folder", "root": str(root), "cache_dir": str(tmp_path / "cache")}
        return tiny_config.updated({"data": data, "data.label_bias_px": shift_px}, changes)

    return make


def cached_folders(config: Config) -> list[str]:
    folder = Path(config.data.cache_dir)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def frame_path(config: Config, fold: int) -> Path:
    return root_of(config.data) / "training" / f"{person(fold)}_00.jpg"


def with_(config: Config, **settings: Any) -> Config:
    return config.updated({path.replace("__", "."): value for path, value in settings.items()})


# --- content ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tiny_config: Config) -> CropCache:
    return open_cache(tiny_config)


def test_shapes_and_types(tiny_config: Config, cache: CropCache) -> None:
    catalog = load_labels(tiny_config.data)
    for subset, size in ((cache.train, wide_size_px(64)), (cache.val, 64)):
        count = len(subset.rows)
        assert count >= 20
        assert (subset.crops_u8.shape, subset.crops_u8.dtype) == ((count, 1, size, size), np.uint8)
        assert (subset.points_px.shape, subset.points_px.dtype) == ((count, 68, 2), np.float32)
        # The points' box is 1 / crop_scale of the crop.
        extent = np.ptp(subset.points_px, axis=1).max(axis=-1)
        np.testing.assert_allclose(extent, 64 / tiny_config.input.crop_scale, rtol=1e-3)
        middles = (subset.points_px.min(axis=1) + subset.points_px.max(axis=1)) / 2
        np.testing.assert_allclose(middles, (size - 1) / 2, atol=1e-2)
    assert len(catalog.rows("train", tiny_config.data)) == len(cache.train.rows)


def test_no_person_trains_and_validates(tiny_config: Config, cache: CropCache) -> None:
    identity = load_labels(tiny_config.data).table["identity"].to_numpy()
    train, val = set(identity[cache.train.rows]), set(identity[cache.val.rows])
    assert train
    assert val
    assert not train & val
    assert {splits.fold_of(name) for name in train} == {2, 3, 4}
    assert {splits.fold_of(name) for name in val} == {1}


def test_crops_are_those_of_crop(tiny_config: Config, cache: CropCache) -> None:
    catalog = load_labels(tiny_config.data)
    for subset, size, scale in ((cache.train, wide_size_px(64), 1.3 * WIDE), (cache.val, 64, 1.3)):
        for index in (0, len(subset.rows) - 1):
            row = int(subset.rows[index])
            crop = Crop.of_box(box_of_points(catalog.points_px[row]), size, scale)
            np.testing.assert_array_equal(subset.crops_u8[index], crop.apply(images.read_image(catalog.path(row)), 1))
            np.testing.assert_array_equal(subset.points_px[index], crop.do(catalog.points_px[row]))


def test_colour(small: Callable[..., Config]) -> None:
    cache = open_cache(with_(small(), input__channels=3))
    assert cache.val.crops_u8.shape == (FACES_PER_PERSON, 3, 64, 64)


def test_the_label_bias_is_taken_out_exactly_once(small: Callable[..., Config]) -> None:
    config = small(shift_px=(6.0, -4.0))
    cache = open_cache(config)
    for subset in (cache.train, cache.val):
        for crop_u8, points_px in zip(subset.crops_u8, subset.points_px, strict=True):
            pixels = np.where(crop_u8[0] > 60, crop_u8[0], 0).astype(float)
            y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
            blob = np.array([(pixels * x).sum(), (pixels * y).sum()]) / pixels.sum()
            assert np.abs(blob - points_px[0]).max() < 0.5  # The shift is 4 px and more here.


def test_memory_maps_are_read_only_and_the_same_file(tiny_config: Config, cache: CropCache) -> None:
    again = open_cache(tiny_config)
    for subset, twin in ((cache.train, again.train), (cache.val, again.val)):
        assert isinstance(subset.crops_u8, np.memmap)
        assert isinstance(twin.crops_u8, np.memmap)
        assert subset.crops_u8.filename == twin.crops_u8.filename
        with pytest.raises(ValueError, match="read-only"):
            subset.crops_u8[0] = 0


# --- made once --------------------------------------------------------------------------------------------------


def test_made_once_and_opened_again(small: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    config = small()
    first = open_cache(config)
    (folder,) = cached_folders(config)
    times = {path: path.stat().st_mtime_ns for path in (Path(config.data.cache_dir) / folder).iterdir()}
    monkeypatch.setattr(images, "decode_image", None)  # Nothing is decoded a second time.
    second = open_cache(config)
    assert cached_folders(config) == [folder]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert first.digest == second.digest
    np.testing.assert_array_equal(first.train.crops_u8, second.train.crops_u8)


def test_another_process_finishes_first(small: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    config = small()
    build_part = crop_cache._build_subset
    digests = []

    def interrupted(*arguments: Any) -> list[bytes]:
        monkeypatch.setattr(crop_cache, "_build_subset", build_part)
        digests.append(open_cache(config).digest)  # The other process: it builds the same crops from start to end.
        return build_part(*arguments)

    monkeypatch.setattr(crop_cache, "_build_subset", interrupted)
    cache = open_cache(config)
    assert digests == [cache.digest]
    assert len(cached_folders(config)) == 1
    assert len(cache.val.crops_u8) == FACES_PER_PERSON


def test_a_changed_frame_makes_new_crops(small: Callable[..., Config]) -> None:
    config = small()
    before = open_cache(config)
    path = frame_path(config, fold=1)
    image = images.read_image(path)
    images.write_image(path.with_suffix(".png"), 255 - image)
    path.with_suffix(".png").rename(path)
    after = open_cache(config)
    assert len(cached_folders(config)) == 2
    assert before.digest != after.digest
    assert not np.array_equal(before.val.crops_u8, after.val.crops_u8)


def test_a_frame_of_another_time_is_looked_at_again(small: Callable[..., Config]) -> None:
    config = small()
    before = open_cache(config)
    os.utime(frame_path(config, fold=2), ns=(1, 1))
    after = open_cache(config)
    assert len(cached_folders(config)) == 2
    assert before.digest == after.digest  # The content is the same.


def test_what_makes_other_crops(small: Callable[..., Config]) -> None:
    config = small()
    open_cache(config)
    open_cache(with_(config, optim__lr=0.5, model__width=16, train__seed=9, track__run_name="other"))
    assert len(cached_folders(config)) == 1
    changes: list[dict[str, Any]] = [
        {"data__val_fold": 2},
        {"data__val_share": 0.5},
        {"data__limit": 1},
        {"data__label_bias_px": (1.0, 0.0)},
        {"input__size_px": 32},
        {"input__channels": 3},
        {"input__crop_scale": 1.5},
    ]
    for number, change in enumerate(changes, start=2):
        open_cache(with_(config, **change))
        assert len(cached_folders(config)) == number, change


def test_digest_names_the_content(small: Callable[..., Config]) -> None:
    config = small()
    digest = open_cache(config).digest
    assert len(digest) == 64
    assert open_cache(with_(config, data__cache_dir=config.data.cache_dir + "2")).digest == digest


# --- bad input --------------------------------------------------------------------------------------------------


def refused(config: Config, says: str, name: str) -> None:
    """Opening the crops fails with one sentence that names the file, and leaves nothing behind."""
    with pytest.raises(FkpError, match=says) as caught:
        open_cache(config)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert cached_folders(config) == []


def test_missing_frame(small: Callable[..., Config]) -> None:
    config = small()
    path = frame_path(config, fold=3)
    path.unlink()
    refused(config, "is missing", str(path))


@pytest.mark.parametrize("content", [b"", b"this is not an image", b"\x89PNG\r\n\x1a\n" + bytes(50)], ids=["empty", "words", "half"])
@pytest.mark.parametrize("fold", [1, 2], ids=["val", "train"])
def test_corrupt_frame(small: Callable[..., Config], fold: int, content: bytes) -> None:
    config = small()
    path = frame_path(config, fold)
    path.write_bytes(content)
    refused(config, "is empty|is not an image", str(path))


def edit_labels(config: Config, fold: int, change: Callable[[list[str]], list[str]]) -> None:
    """Change the 136 numbers of one frame."""
    csv = root_of(config.data) / "training_frames_keypoints.csv"
    lines = csv.read_text().splitlines()
    for number, line in enumerate(lines):
        name, *values = line.split(",")
        if name == f"{person(fold)}_00.jpg":
            lines[number] = ",".join([name, *change(values)])
    csv.write_text("\n".join(lines) + "\n")


def test_nan_label(small: Callable[..., Config]) -> None:
    config = small()
    edit_labels(config, 2, lambda values: ["nan", *values[1:]])
    refused(config, "line 8: a coordinate is not a finite number", "training_frames_keypoints.csv")


def test_point_far_outside_the_frame(small: Callable[..., Config]) -> None:
    config = small()
    edit_labels(config, 2, lambda values: ["-75", *values[1:]])  # Half the longer side is 70.
    refused(config, "a point lies 75 px outside the 140 x 120 frame", frame_path(config, 2).name)


def test_point_a_little_outside_is_a_cut_off_face(small: Callable[..., Config]) -> None:
    config = small()
    edit_labels(config, 2, lambda values: ["-20", *values[1:]])
    open_cache(config)
    assert len(cached_folders(config)) == 1


def test_label_without_extent(small: Callable[..., Config]) -> None:
    config = small()
    edit_labels(config, 1, lambda values: ["50", *values[1:2]] * 68)
    refused(config, "line 5: the face is only 0 x 0 px large", "training_frames_keypoints.csv")


@pytest.mark.parametrize("fold", [1, 0])
def test_label_whose_error_cannot_be_normalised(small: Callable[..., Config], fold: int) -> None:
    """Also that of a test frame shows now, and not after the training."""
    config = small()
    edit_labels(config, fold, lambda values: [*values[:90], *values[72:74], *values[92:]])
    refused(config, "left eye outer and right eye outer of the label coincide", frame_path(config, fold).name)


@pytest.mark.parametrize(("fold", "subset"), [(1, "val"), (0, "test")])
def test_empty_part(small: Callable[..., Config], fold: int, subset: str) -> None:
    config = small()
    csv = root_of(config.data) / "training_frames_keypoints.csv"
    csv.write_text("\n".join(line for line in csv.read_text().splitlines() if not line.startswith(person(fold))) + "\n")
    refused(config, f"the {subset} subset of the identity split of .* is empty", str(root_of(config.data)))


def test_cache_that_cannot_be_made(small: Callable[..., Config], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FkpError, match=r"cannot make the crop cache .*: free some space or set data\.cache_dir"):
        open_cache(with_(small(), data__cache_dir=str(tmp_path / "file" / "cache")))


# --- batches ----------------------------------------------------------------------------------------------------


def stub_trainer(training: bool = False, global_step: int = 0, global_rank: int = 0, world_size: int = 1) -> Any:
    return SimpleNamespace(training=training, global_step=global_step, global_rank=global_rank, world_size=world_size)


def module_of(config: Config, batch_size: int = 16, **place: Any) -> FacesDataModule:
    """A data module on one worker of a run."""
    module = FacesDataModule(config, batch_size)
    module.setup("fit")
    module.trainer = stub_trainer(**place)
    return module


def batches(loader: Any) -> Iterator[tuple[Tensor, Tensor]]:
    for crops_u8, points_px in loader:
        assert crops_u8.dtype == torch.uint8
        assert points_px.dtype == torch.float32
        assert points_px.shape == (len(crops_u8), 68, 2)
        yield crops_u8, points_px


def train_rows(module: FacesDataModule, epoch: int = 0) -> list[list[int]]:
    """Places in the cache of the faces of each training batch."""
    assert module.cache is not None
    cached = np.asarray(module.cache.train.points_px)
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)
    rows = []
    for crops_u8, points_px in batches(loader):
        rows.append([int(np.flatnonzero((cached == target.numpy()).all(axis=(1, 2)))[0]) for target in points_px])
        np.testing.assert_array_equal(crops_u8, module.cache.train.crops_u8[rows[-1]])  # Crops stay with their points.
    return rows


def test_validation_comes_in_order_and_whole(tiny_config: Config) -> None:
    module = module_of(tiny_config, batch_size=7)
    assert module.cache is not None
    found = list(batches(module.val_dataloader()))
    assert len(found) > 1
    assert {len(crops) for crops, _ in found[:-1]} == {14}
    np.testing.assert_array_equal(torch.cat([crops for crops, _ in found]), module.cache.val.crops_u8)
    np.testing.assert_array_equal(torch.cat([points for _, points in found]), module.cache.val.points_px)


def test_training_comes_shuffled_without_a_small_last_batch(tiny_config: Config) -> None:
    module = module_of(tiny_config, batch_size=9)
    assert module.cache is not None
    rows = train_rows(module)
    assert [len(batch) for batch in rows] == [9] * (len(module.cache.train.rows) // 9)
    flat = [row for batch in rows for row in batch]
    assert len(set(flat)) == len(flat)
    assert flat != sorted(flat)


def test_the_order_depends_on_seed_and_epoch_alone(tiny_config: Config) -> None:
    first = train_rows(module_of(tiny_config))
    torch.rand(7)
    assert train_rows(module_of(tiny_config)) == first
    assert train_rows(module_of(tiny_config), epoch=1) != first
    assert train_rows(module_of(with_(tiny_config, train__seed=1))) != first


def test_two_workers_share_the_faces(tiny_config: Config) -> None:
    shares = [train_rows(module_of(tiny_config, batch_size=8, world_size=2, global_rank=rank)) for rank in (0, 1)]
    left, right = ({row for batch in share for row in batch} for share in shares)
    assert not left & right
    assert len(shares[0]) == len(shares[1])
    assert len(left) + len(right) > len(train_rows(module_of(tiny_config, batch_size=1))) - 16


def test_an_epoch_has_as_many_steps_for_any_number_of_workers(tiny_config: Config) -> None:
    """A run that continues with fewer workers must not have more steps than its schedule: 47 faces padded for 2 workers are 48."""
    few = tiny_config.updated({"data.limit": 47})
    steps = [len(train_rows(module_of(few, batch_size=16 // workers, world_size=workers, global_rank=0))) for workers in (1, 2, 4)]
    assert steps == [2, 2, 2]


def test_a_set_smaller_than_two_batches_keeps_its_rest(tiny_config: Config) -> None:
    module = module_of(tiny_config, batch_size=1000)
    assert module.cache is not None
    assert [sorted(batch) for batch in train_rows(module)] == [list(range(len(module.cache.train.rows)))]


def test_only_training_batches_are_augmented(tiny_config: Config) -> None:
    module = module_of(tiny_config, training=False)
    train, val = next(iter(module.train_dataloader())), next(iter(module.val_dataloader()))
    assert module.on_after_batch_transfer(val, 0) is val
    module.trainer = stub_trainer(training=True)
    crops, points = module.on_after_batch_transfer(train, 0)
    assert (crops.dtype, tuple(crops.shape)) == (torch.uint8, (16, 1, 64, 64))
    assert tuple(points.shape) == (16, 68, 2)


def test_augmentation_depends_on_the_place_in_the_run_alone(tiny_config: Config) -> None:
    module = module_of(tiny_config)
    batch = next(iter(module.train_dataloader()))

    def augmented(module: FacesDataModule, step: int, rank: int) -> Tensor:
        module.trainer = stub_trainer(training=True, global_step=step, global_rank=rank)
        torch.rand(7)  # Whatever else draws random numbers does not matter.
        return module.on_after_batch_transfer(batch, 0)[0]

    first = augmented(module, 3, 0)
    assert torch.equal(first, augmented(module, 3, 0))
    assert not torch.equal(first, augmented(module, 4, 0))
    assert not torch.equal(first, augmented(module, 3, 1))
    assert not torch.equal(augmented(module, 0, 3), augmented(module, 3, 0))
    assert torch.equal(first, augmented(FacesDataModule(tiny_config, 16), 3, 0))  # A resumed run.
    assert not torch.equal(first, augmented(FacesDataModule(with_(tiny_config, train__seed=1), 16), 3, 0))


class Spy(pl.LightningModule):
    """Notes what reaches the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained: list[Tensor] = []
        self.validated: list[Tensor] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        self.trained.append(batch[0])
        return self.weight * 1

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        self.validated.append(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_under_a_plain_trainer(tiny_config: Config) -> None:
    spy, module = Spy(), FacesDataModule(tiny_config, batch_size=16)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(spy, datamodule=module)
    assert module.cache is not None
    assert {tuple(crops.shape) for crops in spy.trained} == {(16, 1, 64, 64)}
    # The sanity check before training validates too; the last pass is the whole subset, as it lies in the cache.
    count = len(module.cache.val.rows)
    np.testing.assert_array_equal(torch.cat(spy.validated)[-count:], module.cache.val.crops_u8)
