"""Settings: what was asked for, then the environment, then the config file, then the default."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from library.errors import DirectionsError

__all__ = ["APPLICATION", "config_file", "default_search_path", "library_folder", "setting"]

APPLICATION = "edit-directions"
STARTER = Path(__file__).with_name("starter")


def config_file() -> Path:
    """The config file: `DIRECTIONS_CONFIG`, or config.toml in the user's config folder."""
    if named := os.environ.get("DIRECTIONS_CONFIG"):
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_config_dir(APPLICATION, appauthor=False)) / "config.toml"


def setting(key: str, environment: str, given: Any = None, default: Any = None) -> Any:
    """The first of: `given`, the environment variable, `key` in the config file, `default`."""
    if given is not None:
        return given
    if value := os.environ.get(environment):
        return value
    found = _config().get(key, default)
    texts = found if isinstance(found, list) and isinstance(default, list) else [found]
    if found is not default and not all(isinstance(text, str) for text in texts):
        raise DirectionsError(
            f"{key} in the config file {config_file()} is {found!r}; expected a folder, as text"
        )
    return found


def library_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """The user's library: given, `DIRECTIONS_LIBRARY`, `library` in the config file, or the data folder."""
    folder = setting("library", "DIRECTIONS_LIBRARY", given)
    if folder is None:
        import platformdirs

        folder = Path(platformdirs.user_data_dir(APPLICATION, appauthor=False)) / "library"
    return Path(folder).expanduser().absolute()


def cache_folder(part: str) -> Path:
    """`part` of the cache: in `DIRECTIONS_CACHE`, `cache` of the config file, or the user's; it may not exist yet."""
    folder = setting("cache", "DIRECTIONS_CACHE")
    if folder is None:
        import platformdirs

        folder = platformdirs.user_cache_dir(APPLICATION, appauthor=False)
    return Path(folder).expanduser().absolute() / part


def default_search_path() -> list[Path]:
    """Read-only libraries under the user's own: `DIRECTIONS_PATH` or `search_path`, then the starter."""
    named = setting("search_path", "DIRECTIONS_PATH", default=[])
    folders = named.split(os.pathsep) if isinstance(named, str) else named
    return [*(Path(folder).expanduser().absolute() for folder in folders if folder), STARTER]


def _config() -> dict[str, Any]:
    path = config_file()
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as fault:
        if os.environ.get("DIRECTIONS_CONFIG"):
            raise DirectionsError(f"DIRECTIONS_CONFIG names {path}, and there is no such file") from fault
        return {}
    except (OSError, ValueError) as fault:
        raise DirectionsError(f"cannot read the config file {path}: {fault}; correct or delete it") from fault
