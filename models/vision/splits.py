"""Who is held out from whom: by groups, so that near copies of one picture are all on one side.

A near copy that training has seen makes its twin look like something known. Groups are given, as
the place or the part that pictures are of, or found: pictures whose thumbnails are nearly the same.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.vision.contract import Pixels
from models.vision.preprocess import FLAT, resized

# N pictures, G groups

I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

THUMBNAIL = 24  # pixels either way: small things do not count, places and textures do
ALIKE = 0.985  # correlation of two thumbnails, from which on they are of one group
BLOCK = 1024  # thumbnails compared with all others at once


def grouped(pictures: Iterable[Pixels]) -> I64:
    """The group [N] of each picture: those of near copies."""
    return near_copies(torch.stack([thumbnail(picture) for picture in pictures]))


def thumbnail(picture: Pixels) -> Tensor:
    """A picture made small, float32 [576]: mean 0, length 1; a flat one is all 0."""
    grey = picture.mean(2, dtype=np.float32) / np.iinfo(picture.dtype).max
    small = resized(torch.from_numpy(grey)[None], (THUMBNAIL, THUMBNAIL)).flatten()
    small = small - small.mean()
    length = float(small.norm())
    return small / length if length > FLAT else torch.zeros_like(small)


def near_copies(thumbnails: Tensor, alike: float = ALIKE) -> I64:
    """The group [N] of each thumbnail [N, 576]: who is alike, and who is alike with these.

    Numbered by their first pictures. Memory goes with N, however many are alike.
    """
    count = len(thumbnails)
    first = np.arange(count)  # of the group of each, as far as it is known
    for block in range(0, count, BLOCK):
        close = (thumbnails[block : block + BLOCK] @ thumbnails.T >= alike).numpy()
        for near in close:
            own = first[near]
            if len(own) and (own != own[0]).any():
                joined = np.unique(own)
                first[np.isin(first, joined)] = joined[0]
    return np.unique(first, return_inverse=True)[1]


def held_out(
    classes: Sequence[tuple[str, ...]],
    groups: Sequence[object] | I64,
    share: float,
    *,
    seed: int,
) -> Bool:
    """Which pictures [N] are held out: whole groups, drawn class by class until the share is met.

    ``classes`` are those on each picture, one or several. Rare classes choose first. Of each class
    something stays on either side, where it has two groups or more. Raises ValueError for a class
    that has but one.
    """
    group = _numbers(groups)
    names = sorted({name for own in classes for name in own})
    counts = np.zeros((group.max() + 1, len(names)), np.int64)  # [G, K] pictures
    for at, shown in zip(group, classes, strict=True):
        counts[at, [names.index(name) for name in set(shown)]] += 1
    draw = np.random.default_rng(seed)
    out = np.zeros(len(counts), np.bool_)
    kept = np.zeros(len(counts), np.bool_)  # the last group of some class
    for number in np.argsort(counts.sum(0), kind="stable"):
        own = np.flatnonzero(counts[:, number])
        if len(own) < 2:
            count = int(counts[:, number].sum())
            what, way_out = "is one picture", ""
            if count > 1:
                what = f"is one picture and {count - 1} more like it, or of its group"
                way_out = (
                    " Where parts look alike, as before a fixed camera, say which pictures are of "
                    "one part: groups, on the command line --groups, as '(.+)' where each is of "
                    "another."
                )
            raise ValueError(
                f"class {names[number]!r} {what}, and a part is to be held out. Give more "
                f"pictures, of other parts or places.{way_out}"
            )
        want = max(1, round(share * counts[:, number].sum()))
        for one in draw.permutation(own):
            left = counts[~out & (np.arange(len(counts)) != one), number].sum()
            if counts[out, number].sum() >= want:
                break
            if not out[one] and not kept[one] and left:
                out[one] = True
        inside = own[~out[own]]
        if len(inside) == 1:
            kept[inside] = True
    found: Bool = out[group]
    return found


def _numbers(groups: Sequence[object] | I64) -> I64:
    return np.unique(np.array([str(one) for one in groups]), return_inverse=True)[1]
