"""The configuration of a running service, read again: is it right, and what does it change?

Between `watchkeeper reload` and the service, which knows no files. Everything is made that can be
made without touching what runs; what only a restart can change is refused.
"""

from collections.abc import Mapping
from pathlib import Path

from models.bundle import Bundle
from monitor.live.grading import CameraSetup
from monitor.live.reload import UnfitError
from monitor.live.setup import Hashes, Setup, hashes_of
from monitor.site import changes, plant
from monitor.site.cameras import camera_setups
from monitor.site.config import Config, load
from monitor.site.healthy import numbered
from monitor.site.problems import ConfigError, ModelMissingError, PlantError
from monitor.state.database import DatabaseReader, Transaction
from monitor.state.names import Names


class Staging:
    """One configuration file, and what of it is in force. Called, it reads the file again."""

    def __init__(self, file: Path, config: Config, database: DatabaseReader) -> None:
        """``config`` is what the service was started with."""
        self.in_force = config
        self.names = Names(database)
        self._file = file.absolute()

    def __call__(self, *, hashes: Hashes, file: str | None) -> "Proposed":
        """What the file says now. ``hashes``: of the models and templates in force.

        Raises UnfitError, also where ``file`` is another one.
        """
        if file is not None and Path(file).resolve() != self._file.resolve():
            raise UnfitError(
                f"the service runs with {self._file}, not with {file}: to change that, stop it and "
                f"start it anew"
            )
        try:
            config = load(self._file)
            bundles, cameras = plant.bundles(config), camera_setups(config)
        except ConfigError as error:
            said = "; ".join(map(str, error.problems))
            raise UnfitError(f"the configuration is wrong: {said}") from error
        except PlantError as error:
            again = isinstance(error, ModelMissingError)
            raise UnfitError(str(error), again=again) from error
        found = changes.settings(self.in_force, config)
        if barred := [f"{one} ({one.needs_restart})" for one in found if one.needs_restart]:
            raise UnfitError(
                f"only a restart can change this: {'; '.join(barred)}. Stop the service and start "
                f"it anew, or leave it as it was"
            )
        anew = changes.replaced(hashes, hashes_of(bundles, cameras.values()))
        return Proposed(self, config, bundles, cameras, settings=found, anew=anew)


class Proposed:
    """A configuration that is right, and may come into force."""

    def __init__(
        self,
        staging: Staging,
        config: Config,
        bundles: Mapping[str, Bundle],
        setups: Mapping[str, CameraSetup],
        *,
        settings: tuple[changes.Change, ...],
        anew: tuple[changes.Replaced, ...],
    ) -> None:
        self._staging, self._config, self._bundles = staging, config, bundles
        self._cameras = setups
        self.changes = tuple(map(str, (*settings, *anew)))
        self.untouched = len(changes.untouched(staging.in_force, config, anew))
        cameras = {name: number for number, name in enumerate(config.camera_names())}
        self._numbers = *numbered(config), cameras

    def register(self, tx: Transaction) -> None:
        """Give the names that are new their numbers in the database."""
        names = self._staging.names
        config = self._config
        self._numbers = (
            names.tag_ids(tx, config.tag_names()),
            names.asset_ids(tx, config.asset_names()),
            names.camera_ids(tx, config.camera_names()),
        )

    def setup(self) -> Setup:
        """What the service is made from. Raises UnfitError."""
        try:
            return plant.setup(self._config, self._bundles, *self._numbers, cameras=self._cameras)
        except PlantError as error:
            raise UnfitError(str(error)) from error

    def accept(self) -> None:
        """It is in force from now on."""
        self._staging.in_force = self._config
