"""What makes a command start sooner: packages that nothing has asked for are not executed, garbage is looked for less.

For processes that the command lines own. A program that imports this project decides for itself.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["defer", "quick_imports"]

#: Objects of the youngest generation, and collections of the one before, at which one is collected [700, 10, 10].
_COLLECTED_AT = (100_000, 10, 10)
#: Marks that libraries put on their functions at import, for the case that somebody compiles them.
_COMPILER_MARKS = ("allow_in_graph", "assume_constant_result", "disable")
#: Packages of diffusers that import all their models as soon as one of them is needed.
_EAGER = ("autoencoders", "controlnets", "transformers", "unets")

#: What transformers looks through its models with; a version without it is left as it is.
_SCAN = "create_import_structure_from_path"


def quick_imports(diffusers: bool = True) -> None:
    """Before the models' libraries are imported, in a process of ours.

    torch's compiler, which they import though a command compiles nothing, and diffusers' other models are deferred.
    transformers looks through its folder of models once, and is told that this process is the only one. Garbage is
    looked for less often, as everything that is imported is looked through each time.
    """
    gc.set_threshold(*_COLLECTED_AT)
    import torch  # noqa: F401  (the parent of what is deferred)

    defer(
        "torch._dynamo", _COMPILER_MARKS, only="_trace_wrapped_higher_order_op"
    )  # which transformers' masks need
    if diffusers:
        for kind in _EAGER:
            defer(f"diffusers.models.{kind}")
    _quick_transformers()


def _quick_transformers() -> None:
    """Spare transformers a second look through its models, and distributed tensors, which it guards.

    Nothing happens where its models are imported already: there is nothing left to spare.
    """
    if "transformers.models" in sys.modules:
        return
    from transformers import utils
    from transformers.utils import import_utils

    scan: Any = getattr(import_utils, _SCAN, None)

    def scanned(place: Any) -> Any:
        # The package asks by its folder, as a Path, the folder's own module by the name of its file.
        folder = Path(place)
        return scan(folder.parent if folder.is_file() else folder)

    if scan is not None:
        setattr(import_utils, _SCAN, scanned)
    for module in (utils, import_utils):
        module.is_torch_distributed_available = lambda: False


def defer(package: str, marks: tuple[str, ...] = (), only: str | None = None) -> None:
    """Let `package` be executed no sooner than one of its own names is used.

    Its submodules are imported without it; where `only` names one, that one alone. `marks` are decorators of it
    that until then leave what they decorate as it is. Nothing happens where the package is imported already or
    does not exist.
    """
    if package in sys.modules:
        return
    spec = find_spec(package)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    module.__class__ = _Deferred
    for name in marks:
        setattr(module, name, _unmarked)
    sys.modules[package] = module
    parent, _, child = package.rpartition(".")
    setattr(sys.modules[parent], child, module)
    if only is not None:
        import_module(f"{package}.{only}")
        sys.meta_path.insert(0, _PackageFirst(module))


class _Deferred(ModuleType):
    """A module in `sys.modules` whose code runs when something is asked of it that it does not have."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        _execute(self)
        return getattr(self, name)


def _execute(module: ModuleType) -> None:
    """Run a deferred module's code, once."""
    if isinstance(module, _Deferred):
        module.__class__ = ModuleType  # type: ignore[assignment]
        assert module.__spec__ is not None and module.__spec__.loader is not None
        module.__spec__.loader.exec_module(module)


class _PackageFirst(MetaPathFinder, Loader):
    """Executes a deferred package before any further submodule of it, as Python itself would."""

    def __init__(self, package: ModuleType) -> None:
        self.package = package

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if not fullname.startswith(f"{self.package.__name__}.") or type(self.package) is ModuleType:
            return None
        _execute(self.package)
        if fullname not in sys.modules:
            return None
        # The package has imported it by itself. Without a spec of its own Python takes ours, and does not run it again.
        self.module, self.own = sys.modules[fullname], sys.modules[fullname].__spec__
        self.module.__spec__ = None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.own


def _unmarked(function: Any = None, *_: Any, **__: Any) -> Any:
    return (lambda later: later) if function is None else function
