"""Large JPEG files at half their size: the same places, and no more decoded than is looked at."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Pillow

from fkp.errors import FkpError
from fkp.vision import encoded
from fkp.vision.crop import Crop
from fkp.vision.detect.pyramid import Pyramid
from fkp.vision.detect.windows import Window
from fkp.vision.encoded import EncodedImage
from fkp.vision.image import decode_image

ORIENTATIONS = range(1, 9)


def waves(height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB, other in each place, so steep that half a pixel is a difference of two tones."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    tones = [np.sin(x / 6) + x / width, np.sin(y / 5) + y / height, np.sin((x - y) / 8)]
    return np.clip(128 + 60 * np.stack(tones, axis=-1), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, orientation: int = 1, **options: object) -> bytes:
    exif, data = Pillow.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Pillow.fromarray(image).save(data, "JPEG", quality=97, subsampling=0, exif=exif, **options)
    return data.getvalue()


def is_whole(image: EncodedImage) -> bool:
    """Whether it has been decoded in full."""
    return "full" in vars(image)


@pytest.fixture
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "HALVED_PIXELS", range(10_000, 2**30))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("angle_deg", [0.0, 25.0])
@pytest.mark.usefixtures("small_ones_too")
def test_a_crop_from_the_half_shows_the_same_places(orientation: int, angle_deg: float) -> None:
    data = jpeg(waves(200, 312), orientation)
    image, whole = EncodedImage(data), decode_image(data)
    assert image.size == (whole.shape[1], whole.shape[0]) == ((312, 200) if orientation < 5 else (200, 312))
    crop = Crop((97.3, 88.6), 140.0, 64, angle_deg, mirrored=True)
    found, expected = crop.apply(image, 3).astype(int), crop.apply(whole, 3)
    assert not is_whole(image)
    assert np.abs(found - expected).mean() < 0.8
    for x, y in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)):
        aside = Crop((97.3 + x, 88.6 + y), 140.0, 64, angle_deg, mirrored=True).apply(whole, 3)
        assert np.abs(found - aside).mean() > 1.6, "half a pixel would show"


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.usefixtures("small_ones_too")
def test_windows_of_the_detector_show_the_same_places(orientation: int) -> None:
    data = jpeg(waves(200, 312), orientation)
    image, whole = EncodedImage(data), decode_image(data)
    for zoom in (2.2, 5.0):
        window = Window(11.0, -8.5, zoom, 32, 32)
        assert np.abs(Pyramid(image).cut(window).astype(int) - Pyramid(whole).cut(window)).mean() < 0.6
    assert not is_whole(image)
    close = Window(20.0, 30.0, 1.2, 64, 64)
    np.testing.assert_array_equal(Pyramid(image).cut(close), Pyramid(whole).cut(close))
    assert is_whole(image)


@pytest.mark.usefixtures("small_ones_too")
def test_what_is_asked_decides_and_not_the_order() -> None:
    data = jpeg(waves(200, 312))
    large, small = Crop((90, 90), 140.0, 64), Crop((90, 90), 100.0, 64)
    first, other = EncodedImage(data), EncodedImage(data)
    expected = large.apply(first, 1)
    np.testing.assert_array_equal(small.apply(other, 1), small.apply(decode_image(data), 1))
    assert is_whole(other)
    assert not is_whole(first)
    np.testing.assert_array_equal(large.apply(other, 1), expected)
    window = Window(0, 0, 4.0, 64, 32)
    np.testing.assert_array_equal(Pyramid(other).cut(window), Pyramid(first).cut(window))


@pytest.mark.usefixtures("small_ones_too")
def test_what_has_no_half() -> None:
    """PNG and WebP would be decoded in full all the same; odd sides would be rounded; small files gain nothing."""
    image = waves(200, 312)

    def saved(kind: str) -> bytes:
        data = io.BytesIO()
        Pillow.fromarray(image).save(data, kind)
        return data.getvalue()

    odd = [jpeg(image[:199]), jpeg(image[:, :311])]
    for data in [saved("PNG"), saved("WEBP"), saved("BMP"), jpeg(image[:80, :100]), *odd]:
        found = EncodedImage(data)
        assert found.half is None
        np.testing.assert_array_equal(found.full, decode_image(data))
        assert found.size == (found.full.shape[1], found.full.shape[0])


def test_from_four_megapixels_on() -> None:
    flat = np.full((2000, 2000, 3), 90, np.uint8)
    half = EncodedImage(jpeg(flat)).half
    assert half is not None and half.shape == (1000, 1000, 3)
    assert EncodedImage(jpeg(flat[:1998])).half is None


@pytest.mark.usefixtures("small_ones_too")
def test_progressive_and_grey_files_have_a_half() -> None:
    image = waves(200, 312)
    grey = np.repeat(image[..., :1], 3, axis=-1)
    data = io.BytesIO()
    Pillow.fromarray(image[..., 0]).save(data, "JPEG", quality=97)
    for file, expected in ((jpeg(image, progressive=True), image), (data.getvalue(), grey)):
        half = EncodedImage(file).half
        assert half is not None and half.shape == (100, 156, 3)
        assert np.abs(half - expected.reshape(100, 2, 156, 2, 3).mean((1, 3))).mean() < 1.5


@pytest.mark.usefixtures("small_ones_too")
def test_broken_files_are_one_sentence() -> None:
    data = jpeg(waves(200, 312))
    with pytest.raises(FkpError, match="photo is empty"):
        EncodedImage(b"", "photo")
    with pytest.raises(FkpError, match="photo is not an image that can be decoded"):
        EncodedImage(data[:700], "photo")
    with pytest.raises(FkpError, match="photo has 99 scans: save it anew"):
        EncodedImage(data[:-2] + 98 * b"\xff\xda\0\x02" + data[-2:], "photo")
