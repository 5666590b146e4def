"""What the endpoint takes: each limit once, for every layer that holds it. The deployment's own numbers are serve/config.yaml's."""

from __future__ import annotations

BODY_BYTES = 8 * 1024 * 1024
#: Of all uploads together: what a proxy may hold beside its requests that are answered.
UPLOADS_BYTES = 32 * BODY_BYTES
#: Images of one batch.
IMAGES = 32
#: Detections of an image that are looked at, and faces that are answered.
FACES = 100
#: Of an image, by its header. The decoder's own limit in config.yaml is the same.
PIXELS = 24_000_000
SIDE_PX = 8192
#: An image of more pixels is large: it waits for other large ones, and no other image waits for it.
LARGE_PIXELS = 4_000_000
#: Of all large images that a replica has taken on; one is worked on at a time.
LARGE_PIXELS_IN_PROGRESS = 4 * PIXELS
#: Of a request, its upload included. Ray's own limit in config.yaml stands above it: this answer is the better one.
REQUEST_S = 10

#: When a client whose request was too much may come again.
RETRY_AFTER_S = 1
#: For a moment a replica has so many times its places (`Settings.max_in_progress`).
BURST = 8
#: How many requests may find all places taken within a second. At 20 requests/s it is a standstill of 0.8 s; at four times
#: what two cores can do it is over after 0.1 s.
CROWDED_PER_S = 16

#: Valid at once: the old one and the new one.
TOKENS = 2
TOKEN_CHARACTERS = 16
