"""Doing an edit again from the record in its picture, with anything that was given anew in place of the old."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editor.errors import EditorError
from editor.record import file_sha256, read_record, record_text, versions
from editor.request import DTYPES, SETTINGS, Recorded, Request

if TYPE_CHECKING:
    from library.direction import Direction
    from library.store import Library


def direction_facts(direction: Direction) -> dict[str, Any]:
    """What finds a resolved direction again, version by version, and tells whether it is still the same."""
    return {
        "resolved": _terms(direction.parents) if direction.version is None else direction.ref,
        "parents": direction.parents,
        "tensor_sha256": hashlib.sha256(direction.tensor.astype("<f4").tobytes()).hexdigest(),
        "anchors": [
            {"source": part.source, "target": part.target, "weight": float(part.weight)}
            for part in direction.anchored
        ],
    }


def _terms(parents: Sequence[Mapping[str, Any]]) -> str:
    """The expression of a sum, every weight to its last digit."""
    terms = []
    for parent in parents:
        weight = float(parent["weight"])
        reference = parent["name"] if parent["version"] is None else f"{parent['name']}@{parent['version']}"
        terms.append(f"{'-' if weight < 0 else '+'} {abs(weight)!r}*{reference}")
    return " ".join(terms).removeprefix("+ ")


def found_again(request: Request, library: Library) -> Request:
    """The request with the numbers that the recorded versions have here: a colleague's cat2dog@1 may be @4.

    A version is known by the SHA-256 of its tensors. One that is not here, or is as it was, keeps its number.
    """
    if not request.pinned or request.recorded is None:
        return request
    parents = request.recorded.record["direction"]["parents"]
    try:
        here = [_here(parent, library) for parent in parents]
    except (KeyError, TypeError, ValueError) as error:
        raise EditorError(f"the record of {request.recorded.file} is not complete: {error}") from error
    if here == parents:
        return request
    composed = len(here) > 1 or request.recorded.record["direction"]["version"] is None
    single = f"{here[0]['name']}@{here[0]['version']}"
    return replace(request, expressions=(_terms(here) if composed else single,))


def _here(parent: Mapping[str, Any], library: Library) -> Mapping[str, Any]:
    """A recorded parent under the number that it has in this library."""
    from library.errors import DirectionsError

    digest = parent.get("sha256")
    for encoder in (parent["encoder"], None):  # an imported one lies under the name that it was declared for
        same = set()
        with suppress(DirectionsError):
            for version in library.versions(parent["name"], encoder):
                with suppress(DirectionsError):  # a damaged one is not it
                    if library.header(version).record.get("sha256") == digest:
                        same.add(version.version)
        if digest is None or parent["version"] in same:
            return parent
        if same:
            return {**parent, "version": max(same)}
    return parent


def for_encoder(request: Request, encoders: Sequence[str]) -> tuple[Request, list[str]]:
    """The request for models with this encoder, and what to say of it.

    For another encoder than the recorded one it is for the newest version of the direction there, as it was named.
    """
    if not request.pinned or request.recorded is None:
        return request, []
    recorded = request.recorded
    made_for = {parent["encoder"] for parent in recorded.record["direction"]["parents"]}
    if made_for & set(encoders):
        return request, []
    expression = recorded.record["expression"]
    note = (
        f"{recorded.file} was made for encoder {' and '.join(sorted(made_for))}: {expression} is another here"
    )
    return replace(request, expressions=(expression,), pinned=False), [note]


def repeated(file: str, given: Mapping[str, Any]) -> Request:
    """The request that the record in `file` answers, changed by what is `given` at the command line.

    Raises EditorError where the record lacks something, and where picture or mask are gone or have changed.
    """
    record = read_record(file)
    try:
        return _repeated(file, record, given)
    except EditorError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EditorError(
            f"the record of {file} is not complete ({type(error).__name__}: {error}); "
            "expected one written by this version of edit-image"
        ) from error


def _repeated(file: str, record: Mapping[str, Any], given: Mapping[str, Any]) -> Request:
    """`repeated` of a record that may be damaged: any TypeError, KeyError and the like may come of it."""
    request = _request(file, record)
    picture, mask = record["input"], record["mask"]
    where = request.models or ""
    if "models" not in given and Path(where).is_absolute() and not Path(where).exists():
        raise EditorError(
            f"the models that {file} was made with are gone: {where}; name them: --models FOLDER --from {file}"
        )
    if "caption_prefix" in given:
        request = replace(request, caption=None)
    if "expressions" in given:
        request = replace(request, pinned=False, stem=None)
    if "guidance" in given.get("auto", ()):  # chosen anew, from the model set's own on
        kept = {k: v for k, v in request.settings.items() if k != "cross_attention_guidance"}
        request = replace(request, settings=kept)
    request = _swept(request, given)
    if "images" in given or "prompt" in given:
        request = replace(_elsewhere(request, picture, given), stem=None)
    elif picture:
        request = replace(request, images=(_unchanged(picture, "picture", file),))
    if mask and "mask" not in given:
        request = replace(request, mask=_unchanged(mask, "mask", file))
    return request.changed(given)


def _request(file: str, record: Mapping[str, Any]) -> Request:
    """What was asked for, without the files that it was asked of."""
    settings = {k: v for k, v in record["settings"].items() if k != "steps"}
    if unknown := sorted(set(settings) - set(SETTINGS)):
        raise EditorError(
            f"{file} was made with the setting {unknown[0]!r}, which this version lacks: update"
        )
    real, caption, negative = record["prompt"] is None, record["caption"], record["negative_prompt"]
    inversion, dtype = record["inversion"], recorded_dtype(record)
    if dtype not in DTYPES:
        raise EditorError(f"{file} was made with the type {dtype!r}; expected one of {', '.join(DTYPES)}")
    return Request(
        prompt=record["prompt"],
        expressions=(record["direction"]["resolved"],),
        strength=float(record["strength"]),
        steps=int(record["settings"]["steps"]),
        seed=int(record["seed"]),
        caption=caption if real else None,
        negative_prompt=None if negative == (caption if real else "") else negative,
        models=record["models_folder"] or record["models"],
        device="cpu" if record["device"] == "cpu" else None,
        dtype=None if dtype == "float32" else dtype,
        size=inversion["size"] if real else tuple(record["size"]),
        sample=inversion["sample"] if real else True,
        sweep=dict(record["sweep"]["knobs"]) if record.get("sweep") else None,
        settings=settings,
        regulariser=dict(inversion["regulariser"]) if real else {},
        preset=record.get("preset"),
        stem=f"{Path(file).stem}-again",
        recorded=Recorded(file, record),
        pinned=True,
    )


def _swept(request: Request, given: Mapping[str, Any]) -> Request:
    """The request with the sweep that is given, or the recorded one less the knobs that are given a value.

    What is swept is no longer a setting, neither is what the recorded sweep began with.
    """
    from editor.sweep import KNOBS

    recorded = request.sweep or {}
    knobs = given.get("sweep") or {k: v for k, v in recorded.items() if (KNOBS[k] or k) not in given}
    swept = {KNOBS[knob] for knob in (*recorded, *knobs)}
    settings = {k: v for k, v in request.settings.items() if k not in swept}
    strength = Request.strength if "strength" in recorded else request.strength
    return replace(request, sweep=knobs or None, settings=settings, strength=strength)


def _elsewhere(request: Request, picture: Mapping[str, str] | None, given: Mapping[str, Any]) -> Request:
    """The request for other pictures, or for a prompt; the same picture in another place keeps its caption."""
    images = given.get("images", ())
    if picture and len(images) == 1 and file_sha256(images[0]) == picture["sha256"]:
        return request
    kept = picture is not None if images else request.prompt is not None
    size = request.size if kept else "native"
    return replace(request, prompt=None, caption=None, size=size)


def _unchanged(facts: Mapping[str, str], what: str, file: str) -> str:
    """Where a recorded file lies, its bytes being those recorded."""
    instead = f"edit-image PICTURE --from {file}" if what == "picture" else f"--mask FILE --from {file}"
    if not facts["path"]:
        raise EditorError(
            f"the {what} that {file} was made with was no file; save it, and give it: {instead}"
        )
    places = [place for place in (facts["path"], facts["given"]) if Path(place).is_file()]
    if not places:
        raise EditorError(
            f"the {what} that {file} was made with is gone: {facts['path']}; put it back, or give another: "
            f"{instead}"
        )
    for place in places:
        if file_sha256(place) == facts["sha256"]:
            return place
    raise EditorError(
        f"{places[0]} is not the {what} that {file} was made with: its sha256 is "
        f"{file_sha256(places[0])[:12]}…, the record says {facts['sha256'][:12]}…; restore it, or give another: "
        f"{instead}"
    )


def check_direction_unchanged(direction: Direction, recorded: Recorded) -> list[str]:
    """Raise EditorError, naming what changed, where a direction is not the one in the record.

    Else why the picture may come out slightly different: a sum that was made in Python may have been rounded
    on the way where this one is not.
    """
    facts, kept = direction_facts(direction), recorded.record["direction"]
    if not _same_weights(facts["anchors"], kept.get("anchors", facts["anchors"]), ("source", "target")):
        raise EditorError(
            f"{kept['resolved']} is placed otherwise than the direction that {recorded.file} was made with: what "
            "it is a sum of differs; give another with -d"
        )
    if facts["tensor_sha256"] == kept["tensor_sha256"]:
        return []
    if direction.version is None and _same_weights(direction.parents, kept["parents"], ("sha256",)):
        return [
            f"{recorded.file} was made with the same sum, rounded otherwise: the picture may differ slightly"
        ]
    before = [parent.get("sha256") for parent in kept["parents"]]
    changed = [
        f"{parent['name']}@{parent['version']}"
        for parent, sha256 in zip(direction.parents, before, strict=False)
        if parent.get("sha256") != sha256
    ]
    raise EditorError(
        f"{' and '.join(changed) or kept['resolved']} is not the direction that {recorded.file} was made with: "
        f"the tensor's sha256 is {facts['tensor_sha256'][:12]}…, the record says "
        f"{kept['tensor_sha256'][:12]}…; restore it, or give another with -d"
    )


def _same_weights(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], known_by: Sequence[str]
) -> bool:
    """Whether two sums have the same parts, known by these keys, with the same weights but for rounding."""
    return len(ours) == len(theirs) and all(
        all(one.get(key) is not None and one[key] == other.get(key) for key in known_by)
        and math.isclose(one["weight"], other["weight"], rel_tol=1e-9)
        for one, other in zip(ours, theirs, strict=True)
    )


def settled(record: dict[str, Any], recorded: Recorded | None) -> Mapping[str, Any]:
    """The recorded record where `record` differs from it in nothing but times and names; else `record`.

    So an edit that is only done again gives the same file.
    """
    if recorded is None:
        return record
    again = _lasting(json.loads(record_text(record)))
    if "anchors" not in recorded.record["direction"]:  # which records did not tell once
        again["direction"].pop("anchors", None)
    return recorded.record if again == _lasting(recorded.record) else record


#: What of a record does not tell one picture from another.
OWN = ("seconds", "created", "expression", "evaluation", "auto")


def _lasting(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without what every run has of its own, what was only measured, and how settings were chosen."""
    kept = {"dtype": recorded_dtype(record), **{k: v for k, v in record.items() if k not in OWN}}
    for key, own in (("inversion", ("seconds", "cached")), ("input", ("given",)), ("mask", ("given",))):
        if isinstance(kept.get(key), dict):
            kept[key] = {k: v for k, v in kept[key].items() if k not in own}
    return kept


def recorded_dtype(record: Mapping[str, Any]) -> str:
    """The type of UNet and VAE, such as "float32", which records did not name when it was always that."""
    return str(record.get("dtype", "float32"))


def differences(recorded: Recorded, device: str, dtype: str) -> list[str]:
    """Why the picture may come out slightly different, one line each."""
    record = recorded.record
    here = versions() | {"device": device, "dtype": dtype}
    before = {**record.get("versions", {}), "device": record["device"], "dtype": recorded_dtype(record)}
    changed = [name for name in here if before.get(name) != here[name]]
    notes = []
    if changed:
        were = ", ".join(f"{name} {before.get(name, 'unknown')}" for name in changed)
        are = ", ".join(f"{name} {here[name]}" for name in changed)
        notes.append(f"{recorded.file} was made with {were}; here are {are}: the picture may differ slightly")
    batch = max(record["batch"], record["inversion"].get("batch", 1))
    if batch > 1:
        notes.append(
            f"{recorded.file} was made in a batch of {batch}; alone, it comes out the same but for rounding"
        )
    return notes
