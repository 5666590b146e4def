"""Sizes from the first bytes, for every kind of file the decoder takes, and no answer from broken ones."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Pillow

from fkp.errors import FkpError
from fkp.vision.header import Header, burden, read_header
from fkp.vision.image import decode_image

WIDTH, HEIGHT = 57, 43


def encode(kind: str, mode: str = "RGB", **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    data = io.BytesIO()
    Pillow.fromarray(pixels).convert(mode).save(data, kind, **options)  # type: ignore[arg-type]
    return data.getvalue()


def animated(kind: str) -> bytes:
    """Two frames, the first dark and the second bright."""
    first, second = (Pillow.fromarray(np.full((HEIGHT, WIDTH, 3), value, np.uint8)) for value in (20, 230))
    data = io.BytesIO()
    first.save(data, kind, save_all=True, append_images=[second], **({"lossless": True} if kind == "WEBP" else {}))
    return data.getvalue()


FILES = {
    "jpeg": encode("JPEG"),
    "jpeg progressive": encode("JPEG", progressive=True),
    "jpeg grey": encode("JPEG", "L"),
    "jpeg cmyk": encode("JPEG", "CMYK"),
    "jpeg with a long exif": encode("JPEG", exif=b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\0\0\0\0\0" + bytes(40000)),
    "png": encode("PNG"),
    "png alpha": encode("PNG", "RGBA"),
    "png grey alpha": encode("PNG", "LA"),
    "png palette": encode("PNG", "P"),
    "png one bit": encode("PNG", "1"),
    "png 16 bit": encode("PNG", "I;16"),
    "png animated": animated("PNG"),
    "webp": encode("WEBP"),
    "webp lossless": encode("WEBP", lossless=True),
    "webp alpha": encode("WEBP", "RGBA"),
    "webp animated": animated("WEBP"),
}


@pytest.mark.parametrize("case", FILES)
def test_the_header_says_what_the_decoder_finds(case: str) -> None:
    assert read_header(FILES[case]) == Header(case.split()[0], WIDTH, HEIGHT)  # type: ignore[arg-type]
    decoded = decode_image(FILES[case])
    assert decoded.shape == (HEIGHT, WIDTH, 3)
    assert decoded.dtype == np.uint8


@pytest.mark.parametrize("case", ["png animated", "webp animated"])
def test_of_an_animation_the_first_frame_is_decoded(case: str) -> None:
    assert abs(float(decode_image(FILES[case]).mean()) - 20) < 3


def test_size_is_as_stored_before_the_orientation() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    data = encode("JPEG", exif=exif)
    assert read_header(data) == Header("jpeg", WIDTH, HEIGHT)
    assert decode_image(data).shape == (WIDTH, HEIGHT, 3)


def test_a_few_bytes_may_promise_many_pixels() -> None:
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 70000, 70000)
    assert read_header(data).pixels == 4_900_000_000


def gif() -> bytes:
    return encode("GIF")


@pytest.mark.parametrize("data", [b"", b"RIFF", gif(), encode("BMP"), encode("TIFF"), b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_other_formats_are_refused(data: bytes) -> None:
    with pytest.raises(FkpError, match=r"^photo is not a JPEG, PNG or WebP file( but an SVG drawing)?: convert it"):
        read_header(data, "photo")


def size_or_sentence(data: bytes) -> Header | str:
    try:
        return read_header(data)
    except FkpError as error:
        return "broken" if "broken header" in str(error) else "other"


@pytest.mark.parametrize("case", FILES)
def test_every_cut_is_a_size_or_a_sentence(case: str) -> None:
    whole, data = read_header(FILES[case]), FILES[case]
    for length in range(min(len(data), 700)):
        assert size_or_sentence(data[:length]) in (whole, "broken", "other")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xda\x00\x08" + bytes(20),
        b"\xff\xd8\xff\xe0\x00\x00" + bytes(20),
        b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x00\x00\x00\x03",
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IDAT", 5, 5),
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 0, 5),
        b"RIFF\x10\0\0\0WEBPVP9 " + bytes(20),
    ],
    ids=["end", "scan", "no length", "no lines", "no IHDR", "no width", "unknown chunk"],
)
def test_no_size_is_a_broken_header(data: bytes) -> None:
    with pytest.raises(FkpError, match="broken header"):
        read_header(data)


def test_what_takes_far_longer_than_its_size_tells_is_refused() -> None:
    """A thousand scans over one image, and texts that are inflated one by one: each a few bytes of the file."""
    data = encode("JPEG", progressive=True)
    begin = data.rindex(b"\xff\xda")
    assert burden(data) is None
    assert burden(data[:-2] + 50 * data[begin:-2] + b"\xff\xd9") is None, "more than any encoder makes"
    assert burden(data[:-2] + 1000 * data[begin:-2] + b"\xff\xd9") == f"{1000 + data.count(bytes([255, 218]))} scans"
    assert burden(data + 1000 * data[begin:-2]) is None, "nobody reads what follows the end"
    hidden = b"\xff\xe1" + struct.pack(">H", 2 + 1000 * 2) + 1000 * b"\xff\xda"
    assert burden(data[:2] + hidden + data[2:]) is None, "what a segment holds is no marker"
    plain, text = encode("PNG"), b"a\0\0" + zlib.compress(bytes(1000))
    chunk = struct.pack(">I4s", len(text), b"zTXt") + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    assert burden(plain[:33] + 16 * chunk + plain[33:]) is None
    assert burden(plain[:33] + 17 * chunk + plain[33:]) == "17 compressed texts and profiles"
    with pytest.raises(FkpError, match=r"^frame 7 has 17 compressed texts and profiles: save it anew$"):
        decode_image(plain[:33] + 17 * chunk + plain[33:], "frame 7")


def test_no_size_is_smuggled_past_a_stuffed_byte() -> None:
    """FF 00 and a length over the real frame header: whoever skips by it finds a false, small one inside a comment."""
    data = encode("JPEG", "L")
    begin = data.index(b"\xff\xc0")
    (length,) = struct.unpack_from(">H", data, begin + 2)
    frame = data[begin : begin + 2 + length]
    false = frame[:5] + struct.pack(">HH", 1, 1) + frame[9:]
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(false)) + false
    smuggled = b"\xff\xd8\xff\x00" + struct.pack(">H", 2 + len(frame) + 4) + frame + comment + data[2:begin] + data[begin + 2 + length :]
    assert decode_image(smuggled).shape == (HEIGHT, WIDTH, 3), "a decoder reads the real one"
    with pytest.raises(FkpError, match="has a broken header"):
        read_header(smuggled)
