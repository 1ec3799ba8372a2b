"""Commands start without what they do not use, and nothing is missing for who asks for it."""

import subprocess
import sys

import pytest

from library.startup import defer

#: In a process of its own, as what has been imported stays imported.
PROGRAM = """
import sys
from library.startup import quick_imports

quick_imports()
import torch
from diffusers import UNet2DConditionModel
from transformers import BlipForConditionalGeneration, CLIPTextModel

assert "torch._dynamo.convert_frame" not in sys.modules, "the compiler was imported"
assert "diffusers.models.transformers.transformer_flux" not in sys.modules, "other models were imported"
assert "torch.distributed.tensor" not in sys.modules, "distributed tensors were imported"
from transformers.utils.import_utils import create_import_structure_from_path
import transformers.models

assert create_import_structure_from_path(transformers.models.__file__) is create_import_structure_from_path(
    transformers.models.__path__[0]
), "transformers looks through its models twice"
import diffusers

assert diffusers.models.transformers.Transformer2DModel.__name__ == "Transformer2DModel"
assert diffusers.FluxTransformer2DModel.__name__ == "FluxTransformer2DModel"
doubled = torch.compile(lambda x: 2 * x, backend="eager")
assert doubled(torch.ones(2)).tolist() == [2, 2]
import torch._dynamo.eval_frame

assert sys.modules["torch._dynamo.eval_frame"].__spec__.origin.endswith("eval_frame.py")
"""


def test_the_compiler_and_other_models_are_imported_when_they_are_used():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `late`, whose part works without it, and that says when it is executed."""
    outer = tmp_path / "outer_package"
    late = outer / "late"
    late.mkdir(parents=True)
    (outer / "__init__.py").write_text("executed = []\n")
    (late / "__init__.py").write_text(
        "from outer_package import executed\n"
        "executed.append('late')\n"
        "from outer_package.late import other\n"
        "def mark(function=None): return [function]\n"
    )
    (late / "part.py").write_text("value = 1\n")
    (late / "other.py").write_text("from outer_package import executed\nexecuted.append('other')\n")
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    yield "outer_package.late"
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.startswith("outer_package")]:
        del sys.modules[name]


def test_a_deferred_package_is_executed_once_when_a_name_of_it_is_used(package):
    defer(package, marks=("mark",))
    import outer_package.late.part

    late = outer_package.late
    assert (late.part.value, late.mark(len), late.mark()(len), outer_package.executed) == (1, len, len, [])
    assert late.other and outer_package.executed == ["late", "other"]
    assert late.mark(len) == [len]
    with pytest.raises(AttributeError):
        late.nothing  # noqa: B018


def test_with_one_submodule_any_other_executes_the_package_first(package):
    defer(package, only="part")
    import outer_package

    assert outer_package.executed == []
    import outer_package.late.part

    assert outer_package.executed == [] and outer_package.late.part.value == 1
    import outer_package.late.other

    assert outer_package.executed == ["late", "other"]
    assert outer_package.late.other.__spec__.origin.endswith("other.py")


def test_what_is_imported_already_or_does_not_exist_is_left_alone():
    import json

    defer("json")
    assert sys.modules["json"] is json
    defer("json.no_such_part")
    assert "json.no_such_part" not in sys.modules
