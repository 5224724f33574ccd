"""What whoever runs an inspection network needs of it: pictures in, what is wrong on them out."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.vision.inspected import Inspected

# H, W height and width of a picture, C its colours: 1 grey, 3 red, green and blue

Pixels = NDArray[np.uint8] | NDArray[np.uint16]  # [H, W, C]


class UnlikeError(ValueError):
    """A picture that a network cannot take, for it is unlike those that were learnt from."""


class Inspector(Protocol):
    """A trained network on pictures of any size. Called from one thread at a time."""

    @property
    def hash(self) -> str:
        """Of its weights and its card: results name what they were made by."""
        ...

    def inspect(
        self, pictures: Sequence[Pixels], templates: Sequence[Pixels] | None = None
    ) -> list[Inspected]:
        """What is on each picture, in their order; ``templates``: how each should look.

        Raises UnlikeError for a picture that it cannot take, as one of other colours.
        """
        ...
