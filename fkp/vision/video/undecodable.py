"""Why a video cannot be read."""

from __future__ import annotations

import re
from pathlib import Path

from fkp.vision.video.movie import read_movie

_NAMES = {
    **{"av01": "AV1", "V_AV1": "AV1", "AV01": "AV1", "vvc1": "H.266", "vvi1": "H.266", "hvc1": "H.265", "hev1": "H.265"},
    **{"dvh1": "Dolby Vision", "dvhe": "Dolby Vision", "avc1": "H.264", "apv1": "APV", "evc1": "EVC", "V_MPEGH/ISO/HEVC": "H.265"},
}
#: How Matroska and WebM name a codec, near a file's beginning.
_MATROSKA = re.compile(rb"V_[A-Z0-9]+(?:/[A-Z0-9]+)*")


def undecodable(path: Path, more: str = "") -> str:
    """One sentence, with the file's codec where it names one; `more` is what else the reader may do about a codec."""
    movie = read_movie(path)
    with path.open("rb") as file:
        head = file.read(1 << 16)
    named = _MATROSKA.search(head) if head[:4] == b"\x1aE\xdf\xa3" else None
    code = movie.codec if movie else named[0].decode() if named else ""
    if not code.strip("\0 "):
        return f"{path} is not a video that can be decoded: replace it with a whole .mp4, .mov, .mkv, .webm or .avi file"
    name = f"{_NAMES[code]} ({code})" if code in _NAMES else code
    return f"no frame of video {path} can be decoded here, its codec is {name}: convert it to H.264{more} or replace it if it is broken"
