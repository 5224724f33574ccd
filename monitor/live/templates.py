"""Golden templates: how a part of each recipe should look, for networks that compare with it.

A file for all recipes, or a folder with one for each, named by it: ``RECIPE.png``. The folder is
looked at once, so a recipe that comes from outside is only looked up, never a path. A file that
became another one since is none of them.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from connectors.payloads.image import MOST_MEGAPIXELS, Bounds, PictureError, Pixels, decode

KEPT = 8  # templates that are held unpacked
ENDINGS = (".png", ".jpg", ".jpeg")
_BOUNDS = Bounds(bytes=1 << 30, pixels=MOST_MEGAPIXELS * 1_000_000)


class TemplateError(Exception):
    """A template that cannot be read: says which and why."""


class Templates:
    """The templates of one camera. Called from one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Raises TemplateError where there is none, or two of one recipe."""
        self._path = path
        self._file = path if path.is_file() else None  # for every recipe
        self._files: dict[str, Path] = {}
        self._kept: OrderedDict[Path, Pixels] = OrderedDict()
        if self._file is None:
            for file in _files(path):
                if file.stem in self._files:
                    raise TemplateError(
                        f"{path}: two templates of recipe {file.stem!r}: "
                        f"{self._files[file.stem].name} and {file.name}; want one"
                    )
                self._files[file.stem] = file
        self._hashes = {file: _hash(_content(file)) for file in self.files.values()}

    @property
    def hash(self) -> str:
        """SHA-256 of all of them, and of which recipe each is."""
        each = {recipe: self._hashes[file] for recipe, file in sorted(self.files.items())}
        return _hash(json.dumps(each).encode())

    @property
    def files(self) -> Mapping[str, Path]:
        """Each file by its recipe; one that is for all of them by "*"."""
        return self._files if self._file is None else {"*": self._file}

    def of(self, recipe: str | None) -> Pixels | None:
        """How a part of a recipe should look, [H, W, C]; None: there is no template of it.

        Raises TemplateError where it cannot be read.
        """
        file = self._file or self._files.get(recipe or "")
        if file is None:
            return None
        if file not in self._kept:
            self._kept[file] = self._read(file)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(file)
        return self._kept[file]

    def _read(self, file: Path) -> Pixels:
        content = _content(file)
        if _hash(content) != self._hashes[file]:
            raise TemplateError(
                f"{file}: became another picture meanwhile; `watchkeeper reload` takes it up"
            )
        try:
            return decode(content, _BOUNDS)
        except PictureError as error:
            raise TemplateError(f"{file}: {error}") from error


def _files(folder: Path) -> list[Path]:
    try:
        found = sorted(one for one in folder.iterdir() if one.suffix.lower() in ENDINGS)
    except OSError as error:
        raise TemplateError(f"{folder}: no template: {error.strerror}") from error
    if not found:
        raise TemplateError(f"{folder}: no templates in it; want RECIPE.png for each recipe")
    return found


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TemplateError(f"{file}: {error.strerror}") from error


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
