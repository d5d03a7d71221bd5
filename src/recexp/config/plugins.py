"""What Hydra is told about us: where configuration lies, the core's defaults, and a sweep folder nobody shares."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from recexp.config import catalogue, location, schema


class RecexpSource(ConfigSource):
    """conf/ as it is, and the flat experiments/ folders as the group ``experiment``; ``_schema_`` blocks left out."""

    @staticmethod
    def scheme() -> str:
        """The prefix of this source's address."""
        return "recexp"

    def __deepcopy__(self, memo: dict[int, Any]) -> RecexpSource:
        """Hydra copies its sources again and again; this one has no state."""
        return self

    def available(self) -> bool:
        """Whether conf/ is there."""
        return Path(self.path).is_dir()

    def load_config(self, config_path: str) -> ConfigResult:
        """Read one file. An experiment is rooted at the top, with or without a header that says so."""
        file = catalogue.read(config_path)
        config = OmegaConf.load(file.path)
        if isinstance(config, DictConfig):
            config.pop("_schema_", None)
        header: dict[str, str | None] = {"package": "_global_" if file.rooted and "/" in config_path else None}
        return ConfigResult(config=config, path=f"recexp://{file.path.parent}", provider=self.provider, header=header)

    def is_group(self, config_path: str) -> bool:
        """Whether this is a folder of conf/, or ``experiment``."""
        path = config_path.strip("/")
        return path == catalogue.EXPERIMENT or (Path(self.path) / path).is_dir()

    def is_config(self, config_path: str) -> bool:
        """Whether there is such a file."""
        return catalogue.locate(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The groups and choices below a group; bases (``_x``) are hidden."""
        path = config_path.strip("/")
        found: set[str] = set()
        if results_filter in (None, ObjectType.GROUP) and not path:
            found |= {*schema.groups(), catalogue.EXPERIMENT}
        if results_filter in (None, ObjectType.CONFIG):
            found |= set(catalogue.choices(path))
        return sorted(found)


class RecexpSearchPath(SearchPathPlugin):
    """Puts `RecexpSource` in the place of the plain folder that was given to ``hydra.main``."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Replace the main entry, keep the others (Hydra's own, installed plugins)."""
        for entry in search_path.get_path():
            if entry.provider == "main" and entry.path == str(location.find().conf):
                entry.path = f"{RecexpSource.scheme()}://{entry.path}"


def install() -> None:
    """Register all of it; doing so again changes nothing."""
    plugins = Plugins.instance()
    plugins.register(RecexpSource)
    plugins.register(RecexpSearchPath)
    # A plain mapping: types and ranges are checked by recexp.config.validate, all mistakes at once.
    ConfigStore.instance().store(name="settings", node=schema.core_defaults(), provider="recexp")
    if not OmegaConf.has_resolver("process_id"):
        OmegaConf.register_new_resolver("process_id", os.getpid, use_cache=True)
