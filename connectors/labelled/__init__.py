"""Pictures with labels, as people and labelling tools leave them: what is learnt from."""

from connectors.labelled.pictures import (
    Files,
    Labelled,
    LabelsError,
    Mark,
    others_in,
    pictures_in,
    portable,
)
from connectors.labelled.reading import read

__all__ = [
    "Files",
    "Labelled",
    "LabelsError",
    "Mark",
    "others_in",
    "pictures_in",
    "portable",
    "read",
]
