"""What comes out of an edit, into files: picture, record and sheets, or the record alone where it is withheld."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editor.plan import Writing
from editor.record import check_free, save_picture, save_record, write_whole
from editor.replay import settled
from editor.request import Request

if TYPE_CHECKING:
    from PIL import Image

    from editor.inversion import Edit, Inversion


@dataclass(frozen=True)
class Looks:
    """What looks at edits before they are written; what it says is kept in their records.

    safety: at all pictures that would be written; where it says flagged, they are not, and their record is.
    evaluate: at an edit and the user's mask; see `editor.evaluation`.
    """

    safety: Callable[[Sequence[Any]], Mapping[str, Any] | None] | None = None
    evaluate: Callable[[Edit, str | None], Mapping[str, Any]] | None = None


def looked(
    edit: Edit,
    record: Mapping[str, Any],
    output: Path,
    writing: Writing,
    request: Request,
    looks: Looks,
) -> Mapping[str, Any]:
    """The record with what the edit looks like: findings, the safety checker's verdict, and figures if asked for."""
    findings = [asdict(finding) for finding in edit.findings]
    shown = [edit.image, edit.reconstruction] if writing.beside(output) else [edit.image]
    verdict = looks.safety(shown) if looks.safety else None
    record = settled({**record, "findings": findings, "safety": verdict}, request.recorded)
    if looks.evaluate and not flagged(record):
        record = {**record, "evaluation": looks.evaluate(edit, request.mask)}
    return record


def saved(
    edit: Edit, record: Mapping[str, Any], output: Path, inversion: Inversion, writing: Writing
) -> dict[str, Any]:
    """Write the picture, its record and, where asked for, the sheet; what there is to report."""
    from editor.pictures import attention_sheet
    from editor.sheets import contact_sheet

    if flagged(record):
        return withheld(record, output, writing)
    save_picture(edit.image, output, record, writing.replaces(output))
    start = [("input", inversion.picture)] if inversion.picture else []
    last = (record["expression"], edit.image)
    made = {
        "sheet": lambda: contact_sheet([[*start, ("reconstruction", edit.reconstruction), last]]),
        "attention": lambda: attention_sheet(inversion, edit),
    }
    report = report_of(output, record)
    for kind, path in writing.beside(output).items():
        picture = made[kind]()
        write_whole(path, lambda file, picture=picture: picture.save(file, "PNG"))
        report[kind] = str(path)
    return report


def save_whole(image: Image.Image, record: Mapping[str, Any], path: Path, edit: Edit) -> None:
    """Write what was made in Python, over what is there, but never over the picture or mask it was made from."""
    from editor.errors import EditorError

    written = {file.resolve() for file in (path, path.with_suffix(".json"))}
    for facts in (record.get("input"), record.get("mask")):
        if facts and facts["path"] and Path(facts["path"]).resolve() in written:
            raise EditorError(f"{facts['path']} is what was edited; save elsewhere")
    save_picture(image, path, {**record, "safety": _unchecked(edit)}, force=True)


def _unchecked(edit: Edit) -> Mapping[str, Any] | None:
    """What the record says of the safety checker, that the picture was not shown to; None: the models have none."""
    from editor.errors import ModelsUnavailable
    from editor.models import names_safety_checker
    from editor.safety import OFF

    models = edit.inversion.editor.models if edit.inversion and edit.inversion.editor else None
    location = models.unet.config.get("_name_or_path") if models else None
    if models is None or not location:
        return None
    try:
        return OFF if names_safety_checker(location, models.revision) else None
    except ModelsUnavailable:  # their parts are here, but not their index
        return OFF


def flagged(record: Mapping[str, Any]) -> bool:
    """Whether a record is of pictures that the safety checker flagged."""
    return bool((record.get("safety") or {}).get("flagged"))


def withheld(record: Mapping[str, Any], output: Path, writing: Writing) -> dict[str, Any]:
    """Write the record alone; a picture that it replaces is removed, so that the two do not disagree."""
    replaces = writing.replaces(output)
    for path in (output, output.with_suffix(".json"), *writing.beside(output).values()):
        check_free(path, replaces)
        path.unlink(missing_ok=True)
    save_record(output, record)
    return report_of(output, record)


def report_of(output: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to tell of a picture; `output` is where it lies unless it was withheld."""
    return {
        "output": str(output),
        "sheet": None,
        "attention": None,
        "withheld": flagged(record),
        "record": record,
    }
