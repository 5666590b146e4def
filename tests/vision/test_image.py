"""Bytes to pixels: every kind of file that occurs, and every way in which it may be broken."""

from __future__ import annotations

import io
import struct
import unicodedata
import zlib
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as Pillow

from fkp.errors import FkpError
from fkp.vision.image import decode_image, read_image, write_image


def smooth_image(height: int = 48, width: int = 64) -> np.ndarray:
    """(H, W, 3) uint8 RGB without symmetry, so smooth that JPEG hardly changes it."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([40 + 180 * x / width, 30 + 150 * y / height, 200 - 120 * x * y / (width * height)], axis=-1).astype(np.uint8)


def png(array: np.ndarray) -> bytes:
    """OpenCV's channel order: grey, BGR or BGRA."""
    return cv2.imencode(".png", array)[1].tobytes()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# --- kinds of files ---------------------------------------------------------------------------------------------


def test_rgb_order() -> None:
    image = smooth_image()
    np.testing.assert_array_equal(decode_image(png(image[..., ::-1])), image)


def test_rgba_png_under_a_jpg_name(tmp_path: Path) -> None:
    image = smooth_image()
    alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
    alpha[:10] = 0  # Transparency is dropped; the colour below it stays.
    path = tmp_path / "frame.jpg"
    path.write_bytes(png(np.concatenate([image[..., ::-1], alpha], axis=-1)))
    decoded = read_image(path)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, image)


def test_grey_becomes_three_equal_channels() -> None:
    grey = smooth_image()[..., 0]
    np.testing.assert_array_equal(decode_image(png(grey)), np.repeat(grey[..., None], 3, axis=-1))


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_is_reduced_to_8(channels: int) -> None:
    image = smooth_image()[..., :channels]
    decoded = decode_image(png(image[..., ::-1].astype(np.uint16) * 257))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, np.broadcast_to(image, decoded.shape))


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp", ".png"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    image = smooth_image()
    write_image(tmp_path / f"image{suffix}", image)
    decoded = read_image(tmp_path / f"image{suffix}")
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).max() <= (0 if suffix in (".png", ".bmp") else 6)


#: EXIF orientation -> what the camera stores of an upright image.
STORED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a.transpose(1, 0, 2), 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(orientation: int) -> None:
    image = smooth_image()
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    stored = np.ascontiguousarray(STORED[orientation](image))
    Pillow.fromarray(stored).save(data, "JPEG", quality=98, subsampling=0, exif=exif)
    decoded = decode_image(data.getvalue())
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_of_the_other_formats(kind: str, orientation: int) -> None:
    image = smooth_image()
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    stored = np.ascontiguousarray(STORED[orientation](image))
    Pillow.fromarray(stored).save(data, kind, lossless=True, exif=exif) if kind == "WEBP" else Pillow.fromarray(stored).save(
        data, kind, exif=exif
    )
    np.testing.assert_array_equal(decode_image(data.getvalue()), image)


def avif(image: np.ndarray, **options: object) -> bytes:
    data = io.BytesIO()
    Pillow.fromarray(image).save(data, "AVIF", quality=100, subsampling="4:4:4", **options)  # type: ignore[arg-type]
    return data.getvalue()


def with_property(data: bytes, kind: bytes, content: bytes) -> bytes:
    """An AVIF file of Pillow's with one more transformation of its image, before those that it has."""
    box = struct.pack(">I", 8 + len(content)) + kind + content
    grown = bytearray(data)
    ipma, mdat = data.index(b"ipma") - 4, data.index(b"mdat") - 4
    # ipma: head 8, version and flags 4, entries 4, item 2, count 1, then an index each.
    count, first = ipma + 18, data[ipma + 8 : mdat]
    assert first[:4] == bytes(4) and data[count] in (4, 5, 6), "as Pillow writes it"
    indices = list(data[count + 1 : count + 1 + data[count]])
    index = 1 + sum(1 for place in (b"ispe", b"pixi", b"av1C", b"colr", b"irot", b"imir") if place in data)
    turns = [number for number in indices if number & 0x7F > 4]
    ordered = [number for number in indices if number & 0x7F <= 4] + [0x80 | index] + turns
    grown[ipma:mdat] = struct.pack(">I", 19 + len(ordered)) + data[ipma + 4 : count] + bytes([len(ordered), *ordered])
    grown[ipma:ipma] = box
    more = len(box) + 1
    for name, by in ((b"ipco", len(box)), (b"iprp", more), (b"meta", more)):
        place = data.index(name) - 4
        grown[place : place + 4] = struct.pack(">I", int.from_bytes(data[place : place + 4], "big") + by)
    place = data.index(b"iloc") + 18  # Where the image's bytes begin.
    assert int.from_bytes(data[place : place + 4], "big") == mdat + 8
    grown[place : place + 4] = struct.pack(">I", mdat + 8 + more)
    return bytes(grown)


@pytest.mark.parametrize("orientation", STORED)
def test_avif_is_turned_and_mirrored_as_it_says(orientation: int) -> None:
    """Pillow writes an orientation as AVIF's own `irot` and `imir`."""
    image = smooth_image()
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    data = avif(np.ascontiguousarray(STORED[orientation](image)), exif=exif)
    assert orientation == 1 or b"irot" in data or b"imir" in data
    decoded = decode_image(data)
    assert decoded.shape == image.shape and decoded.flags.c_contiguous
    assert np.abs(decoded.astype(int) - image).max() <= 6


@pytest.mark.parametrize("orientation", [1, 6])
def test_avif_is_cropped_before_it_is_turned(orientation: int) -> None:
    image = smooth_image()
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    data = avif(image, exif=exif)
    cropped = with_property(data, b"clap", struct.pack(">IIIIiIiI", 40, 1, 20, 1, -3, 1, 2, 1))
    x, y = (64 - 40) // 2 - 3, (48 - 20) // 2 + 2
    expected = image[y : y + 20, x : x + 40]
    if orientation == 6:
        expected = np.rot90(expected, -1)
    decoded = decode_image(cropped)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).max() <= 6


def test_avif_that_is_cut_off_is_one_sentence() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    data = avif(smooth_image(), exif=exif)
    for length in (40, data.index(b"ipma") + 9, len(data) - 20):
        with pytest.raises(FkpError, match="frame 7 is not an image that can be decoded"):
            decode_image(data[:length], "frame 7")


@pytest.mark.parametrize("kind", ["GIF", "JPEG2000", "MPO", "PPM", "TIFF"])
def test_rarer_formats(kind: str) -> None:
    image = smooth_image() // 64 * 64
    data = io.BytesIO()
    Pillow.fromarray(image).save(data, kind)
    assert np.abs(decode_image(data.getvalue()).astype(int) - image).mean() < (5 if kind == "MPO" else 3), "an MPO is two JPEG images"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is an HEIC photograph, which is not decoded here: convert it to JPEG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heix" + bytes(90), "is an HEIC photograph"),
        (b"\xff\x0a" + bytes(50), "is a JPEG XL image"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing"),
        (b"%PDF-1.7 ...", "is a PDF document"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(90), "is a video, which is not decoded here: end the name of --out in .mp4"),
    ],
)
def test_what_people_take_for_an_image_is_named(data: bytes, says: str) -> None:
    with pytest.raises(FkpError, match=f"^frame 7 {says}"):
        decode_image(data, "frame 7")


@pytest.mark.parametrize("name", ["Zoë", "한글", "Ångström"])
def test_a_file_is_found_in_either_spelling(tmp_path: Path, name: str) -> None:
    composed, decomposed = (tmp_path / f"{unicodedata.normalize(form, name)}.png" for form in ("NFC", "NFD"))
    for there, asked in ((composed, decomposed), (decomposed, composed)):
        write_image(there, smooth_image())
        np.testing.assert_array_equal(read_image(asked), smooth_image())
        there.unlink()
    with pytest.raises(FkpError, match="No such file"):
        read_image(composed)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "P", "1", "CMYK"])
def test_every_mode_gives_three_channels(mode: str) -> None:
    image = smooth_image()
    data = io.BytesIO()
    Pillow.fromarray(image).convert(mode).save(data, "JPEG" if mode == "CMYK" else "PNG", **({"quality": 98} if mode == "CMYK" else {}))
    decoded = decode_image(data.getvalue())
    assert (decoded.shape, decoded.dtype) == (image.shape, np.uint8)
    expected = np.asarray(Pillow.open(data).convert("RGB")).astype(int)
    assert np.abs(decoded.astype(int) - expected).mean() < 2


# --- broken files -----------------------------------------------------------------------------------------------


def noisy_jpeg() -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


def huge_png() -> bytes:
    """A few bytes that promise 4.9 thousand million pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 70000, 70000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(100))) + png_chunk(b"IEND", b"")


def longer_chunk(place: int) -> bytes:
    """A PNG file with a chunk for which OpenCV would take 4 GiB of memory."""
    whole = png(smooth_image())
    return whole[:place] + b"\xff\xff\xff\xff" + whole[place + 4 :]


BROKEN = {
    "empty": (b"", "frame 7 is empty: replace it"),
    "words": (b"this is not an image at all, whatever its name says", "frame 7 is not an image that can be decoded: replace it"),
    "zeros": (bytes(4000), "frame 7 is not an image that can be decoded"),
    "cut-off header": (noisy_jpeg()[:20], "frame 7 is not an image that can be decoded"),
    "half a JPEG": (noisy_jpeg()[:2500], "frame 7 is not an image that can be decoded"),
    "half a PNG": (png(smooth_image())[:200], "frame 7 has a chunk of "),
    "too many pixels": (huge_png(), "frame 7 has too many pixels"),
    "pixels longer than the file": (longer_chunk(33), "frame 7 has a chunk of 4294967295 bytes, more than the file"),
    "header longer than the file": (longer_chunk(8), "frame 7 has a chunk of 4294967295 bytes, more than the file"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_bytes_are_one_sentence(case: str) -> None:
    data, says = BROKEN[case]
    with pytest.raises(FkpError, match=says) as caught:
        decode_image(data, "frame 7")
    assert "\n" not in str(caught.value)


def test_a_buffer_is_decoded_like_its_bytes() -> None:
    data = png(smooth_image())
    np.testing.assert_array_equal(decode_image(pa.py_buffer(data), "frame 7"), decode_image(data, "frame 7"))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FkpError, match=r"cannot read image .*absent\.jpg: No such file or directory"):
        read_image(tmp_path / "absent.jpg")
    with pytest.raises(FkpError, match=r"cannot read image .*: Is a directory"):
        read_image(tmp_path)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"junk")
    with pytest.raises(FkpError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


# --- writing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["image.xyz", "picture", "image.txt"])
def test_write_with_an_unknown_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(FkpError, match=r"no encoder for a .* file, use \.png or \.jpg"):
        write_image(tmp_path / name, smooth_image())
    assert not (tmp_path / name).exists()


def test_write_into_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FkpError, match=r"cannot write .*image\.png: No such file or directory"):
        write_image(tmp_path / "absent" / "image.png", smooth_image())
