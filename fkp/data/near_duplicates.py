"""Images that are nearly the same: copies, other sizes and compressions, mirror images, neighbouring frames of a video.

None may train while the other tests, so they come into one group. Two images are compared where two of the eight 16-bit words of their
hashes are equal: of hashes that differ in 6 bits two always are, and in 10 bits nearly always. Such pairs are found by sorting, once for
each of 28 pairs of words, and an image is compared with the next `_WINDOW` alone: the time grows as N log N whatever the images are, and
a thousand that are the same still form one chain.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fkp.vision.fingerprint import Fingerprint

#: How many of the 128 bits may differ, and how well the two 16 x 16 images must correlate. Of 145 photographs of HELEN every copy of half
#: the size, of JPEG quality 30, in grey, mirrored, or cut by 1 % on each side is found; cut by 2 %, 72 %. Of 5,770 frames of 347 persons
#: (YouTube Faces) no two of different persons are taken for the same, and would not be at 28 bits and 0.90 either.
MOST_BITS = 10
LEAST_ALIKE = 0.95

_WINDOW = 32


def clusters_of(prints: Sequence[Fingerprint], went: Callable[[float], None] = lambda part: None) -> np.ndarray:
    """(N,) number of the cluster of each image: equal for images that are nearly the same, or mirrored, over any chain of such.

    Args:
        prints: Of the images.
        went: Is told the part that is done, from time to time; what it raises ends the comparison.
    """
    count = len(prints)
    grey = np.array([one.grey_u8 for one in prints], np.uint8)
    # The hashes of the images, and then those of their mirror images.
    words = np.array([[one.hash_u16 for one in prints], [one.mirrored_u16 for one in prints]], "<u2").reshape(2 * count, 8)
    cluster = np.arange(count)
    for turn, (first, second) in enumerate(pairs := [*itertools.combinations(range(8), 2)]):
        went(turn / len(pairs))
        third, fourth = [word for word in range(8) if word not in (first, second)][:2]  # So that equal hashes stand side by side.
        code = np.ascontiguousarray(words[:, [fourth, third, second, first]]).view("<u8").ravel()
        order = np.argsort(code)
        key = code[order] >> np.uint64(32)
        for step in range(1, min(_WINDOW, len(order) - 1) + 1):
            same = np.flatnonzero(key[step:] == key[:-step])
            if not len(same):
                break
            one, other = order[same], order[same + step]
            # What is in one cluster already is not compared again.
            apart = cluster[one % count] != cluster[other % count]
            one, other = one[apart], other[apart]
            near = np.bitwise_count(words[one] ^ words[other]).sum(1) <= MOST_BITS
            one, other = one[near], other[near]
            near = _alike(grey, one, other)
            cluster = _joined(cluster, one[near] % count, other[near] % count)
    return cluster


def _joined(cluster: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The clusters when those of some pairs become one."""
    if not len(one):
        return cluster
    count = int(cluster.max()) + 1
    links = coo_array((np.ones(len(one), bool), (cluster[one], cluster[other])), shape=(count, count))
    return connected_components(links, directed=False)[1][cluster]


def _alike(grey: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether the small images of pairs correlate; numbers from N on are mirror images."""
    kept = np.empty(len(one), bool)
    for start in range(0, len(one), 4096):
        part = slice(start, start + 4096)
        left, right = grey[one[part] % len(grey)], grey[other[part] % len(grey)]
        mirrored = (one[part] >= len(grey)) != (other[part] >= len(grey))
        right = np.where(mirrored[:, None, None], right[:, :, ::-1], right)
        kept[part] = _correlation(left, right) >= LEAST_ALIKE
    return kept


def _correlation(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    a, b = (some.reshape(len(some), -1) - some.mean((1, 2))[:, None] for some in (left.astype(np.float64), right.astype(np.float64)))
    # Two even images have no contrast to compare, and are alike: hence the ones.
    return ((a * b).sum(1) + 1) / (np.sqrt((a * a).sum(1) * (b * b).sum(1)) + 1)
