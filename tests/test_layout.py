"""Who may import whom, what importing costs, and that every command exists and is documented."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "library": {"library"},
    "zoo": {"zoo", "library"},
    "directions": {"directions", "library", "zoo"},
    "editor": {"editor", "library", "zoo"},
}
COMMANDS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def imported(path: Path) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_only_what_lies_below(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        ours = imported(path) & {*MAY_IMPORT, "benchmarks", "tests"}
        assert ours <= MAY_IMPORT[package], path


@pytest.mark.parametrize("package", [*MAY_IMPORT, *(home.split(":")[0] for home in COMMANDS.values())])
def test_importing_loads_nothing_heavy_and_makes_nothing(package: str, tmp_path: Path) -> None:
    heavy = ("torch", "diffusers", "transformers", "pandas")
    code = f"import sys, {package}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert not list(tmp_path.iterdir())


def test_every_command_resolves_has_help_and_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    installed = {e.name: e for e in entry_points(group="console_scripts")}
    for command in COMMANDS:
        assert command in readme
        main = installed[command].load()
        assert main.help and all(p.help for p in main.params if p.param_type_name == "option"), command
