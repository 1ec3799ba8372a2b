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


def user_folder(kind: str) -> Path | None:
    """The user's own `config`, `data` or `cache` folder of this program; None where there is no home to have it in."""
    import platformdirs

    try:
        folder = Path(getattr(platformdirs, f"user_{kind}_dir")(APPLICATION, appauthor=False))
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None


def expanded(folder: str | os.PathLike[str], named_by: str) -> Path:
    """The absolute path, with `~` and `~user` replaced; DirectionsError where they have no home."""
    try:
        return Path(folder).expanduser().absolute()
    except RuntimeError as fault:
        raise DirectionsError(
            f"{folder} is in a home folder that is not there: set HOME, or give {named_by} the whole path"
        ) from fault


def config_file() -> Path | None:
    """The config file: `DIRECTIONS_CONFIG`, or config.toml in the user's config folder, if there is a home."""
    if named := os.environ.get("DIRECTIONS_CONFIG"):
        return expanded(named, "DIRECTIONS_CONFIG")
    folder = user_folder("config")
    return folder and folder / "config.toml"


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
        return _at_home("data", "a library", "--library DIR or DIRECTIONS_LIBRARY") / "library"
    return expanded(folder, "--library or DIRECTIONS_LIBRARY")


def cache_folder(part: str) -> Path:
    """`part` of the cache: in `DIRECTIONS_CACHE`, `cache` of the config file, or the user's; it may not exist yet."""
    folder = setting("cache", "DIRECTIONS_CACHE")
    if folder is None:
        return _at_home("cache", "a cache", "DIRECTIONS_CACHE, or do without: --no-cache") / part
    return expanded(folder, "DIRECTIONS_CACHE") / part


def _at_home(kind: str, what: str, otherwise: str) -> Path:
    folder = user_folder(kind)
    if folder is None:
        raise DirectionsError(
            f"there is no home folder for {what}: set HOME, or name a folder with {otherwise}"
        )
    return folder


def default_search_path() -> list[Path]:
    """Read-only libraries under the user's own: `DIRECTIONS_PATH` or `search_path`, then the starter."""
    named = setting("search_path", "DIRECTIONS_PATH", default=[])
    folders = named.split(os.pathsep) if isinstance(named, str) else named
    return [*(expanded(folder, "DIRECTIONS_PATH") for folder in folders if folder), STARTER]


def _config() -> dict[str, Any]:
    path = config_file()
    if path is None:
        return {}
    named = bool(os.environ.get("DIRECTIONS_CONFIG"))
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as fault:
        if named:
            raise DirectionsError(f"DIRECTIONS_CONFIG names {path}, and there is no such file") from fault
        return {}
    except (OSError, ValueError) as fault:
        if isinstance(fault, PermissionError) and not named and not os.path.lexists(path):
            return {}  # somebody else's home, into which one may not look
        raise DirectionsError(f"cannot read the config file {path}: {fault}; correct or delete it") from fault
