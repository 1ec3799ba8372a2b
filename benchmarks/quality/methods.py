"""The methods that are compared, under one interface, and the table of our option sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

from benchmarks.peer import PEER
from benchmarks.quality.batch import GUIDANCE_SCALE, Batch
from benchmarks.quality.rivals import (
    SELF_PART,
    Outcome,
    Peer,
    attention_swap,
    sdedit,
    word_swap,
)
from editor.presets import PRESETS, PUBLISHED
from editor.regularize import Regulariser
from editor.session import Editor

#: Edits a batch; the number is the value of the method's knob.
Run = Callable[[Batch, float], Outcome]

#: What the authors' code takes for synthetic pictures instead.
PUBLISHED_SYNTHETIC: dict[str, Any] = {"cross_attention_guidance": 0.15}

STRENGTH = "strength"


@dataclass(frozen=True)
class Options:
    """A named set of our options: changes to the published settings, or (None) the editor's own defaults.

    knob is `strength` or the name of a setting; its first value is the one in the tables, all of them make the
    curve. own_regulariser: inversions are regularised as the model set says, not as published. preset: instead of
    all this, what the preset of this name says, in as many steps as it takes of those of `reference`.
    """

    name: str
    changes: Mapping[str, Any] | None = field(default_factory=dict)
    knob: str = STRENGTH
    values: tuple[float, ...] = (1.0,)
    own_regulariser: bool = False
    preset: str | None = None


SDEDIT, WORD_SWAP, ATTENTION_SWAP = "SDEdit + word swap", "DDIM + word swap", "prompt-to-prompt"
REGULARISED_WORD_SWAP, DIRECTION_ALONE = "DDIM regularised + word swap", "regularised + direction"
PEER_NAME, PUBLISHED_NAME, FAST_NAME, DEFAULT_NAME = "peer", "published", "preset fast", "default"
#: What the paper compares pix2pix-zero with, the peer, and the published algorithm: the default has to lead these.
RIVALS = (SDEDIT, WORD_SWAP, ATTENTION_SWAP, PEER_NAME, PUBLISHED_NAME)
#: The paper's ablation, in its order.
ABLATION = (WORD_SWAP, REGULARISED_WORD_SWAP, DIRECTION_ALONE, PUBLISHED_NAME)
STRENGTHS = (1.0, 0.5, 0.75, 1.25, 1.5)

#: Ours, row by row: edit this table to compare other option sets.
OPTIONS: tuple[Options, ...] = (
    Options(DIRECTION_ALONE, {"cross_attention_guidance": 0.0}),
    Options(PUBLISHED_NAME, values=STRENGTHS),
    Options("anchored placement", {"placement": "anchored"}),
    Options("guidance until", knob="guidance_until", values=(0.5, 0.25, 0.75)),
    Options("conditional only", {"conditional_only": True}),
    Options("small maps only", {"attention_resolution": 8}),
    Options("reuse forward", {"reuse_forward": True}),
    Options("source correction", {"source_correction": True}),
    Options("noise correction", {"noise_correction": True}),
    Options("interpolation", knob="interpolation", values=(0.5, 0.25, 1.0)),
    Options("keep background", knob="keep_background", values=(0.5, 0.25, 0.75)),
    Options("own regulariser", own_regulariser=True),
    Options(FAST_NAME, changes=None, values=STRENGTHS, own_regulariser=True, preset="fast"),
    Options(DEFAULT_NAME, changes=None, values=STRENGTHS, own_regulariser=True),
)


@dataclass(frozen=True)
class Method:
    """A way to edit. The first of `values` is the one in the tables, all of them make the trade-off curve.

    settings: everything else that the result depends on, in JSON's terms, so that a result is found again.
    prepare: loads what only this method needs, which `run` would do at its first call.
    """

    name: str
    knob: str
    values: tuple[float, ...]
    run: Run
    settings: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[], object] = field(default=lambda: None)


def all_methods(editor: Editor, synthetic: bool = False) -> list[Method]:
    """Every method, in the order of the tables; the peer only where diffusers still has it."""
    regularised = {"auto_corr": Regulariser().auto_corr, "kl": Regulariser().kl}
    scale = {"guidance_scale": GUIDANCE_SCALE}
    published = {**PUBLISHED, **(PUBLISHED_SYNTHETIC if synthetic else {})}
    methods = [
        Method(SDEDIT, STRENGTH, (0.8, 0.3, 0.5, 0.65, 0.9), sdedit, scale),
        Method(WORD_SWAP, "guidance scale", (GUIDANCE_SCALE, 1.0, 2.5, 7.5), word_swap),
        Method(ATTENTION_SWAP, "τ", (0.8, 0.2, 0.4, 0.6, 1.0), attention_swap, {**scale, "self": SELF_PART}),
        Method(
            REGULARISED_WORD_SWAP,
            "guidance scale",
            (GUIDANCE_SCALE,),
            partial(word_swap, regulariser=Regulariser()),
            regularised,
        ),
    ]
    if has_peer():
        guidance = published["cross_attention_guidance"]
        peer = Peer(editor, guidance)
        settings = {**scale, **regularised, "cross_attention_guidance": guidance}
        methods.append(Method(PEER_NAME, STRENGTH, STRENGTHS, peer, settings, peer.load))
    return methods + [_ours(editor, options, published, synthetic) for options in OPTIONS]


def has_peer() -> bool:
    """Whether diffusers still has the deprecated pipeline."""
    try:
        return find_spec(PEER) is not None
    except ModuleNotFoundError:
        return False


def _ours(editor: Editor, options: Options, published: Mapping[str, Any], synthetic: bool) -> Method:
    """One row of the table as a method."""
    changes: dict[str, Any] = {} if options.changes is None else {**published, **options.changes}
    regulariser = editor.regulariser() if options.own_regulariser else Regulariser()
    part = 1.0
    if options.preset is not None:
        changes = {"preset": options.preset}
        part = PRESETS[options.preset]["steps"] / PRESETS["reference"]["steps"]

    def run(batch: Batch, value: float) -> Outcome:
        strong = options.knob == STRENGTH
        own = batch if part == 1 else Batch(editor, batch.samples, max(1, round(part * batch.steps)))
        jobs = [
            (inversion, sample.direction, value if strong else 1.0)
            for inversion, sample in zip(own.inversions(regulariser), own.samples, strict=True)
        ]
        edits = editor.edit_all(jobs, **(changes if strong else {**changes, options.knob: value}))
        return Outcome([edit.image for edit in edits], [edit.reconstruction for edit in edits])

    settings = {**asdict(editor.settings(**changes)), "regulariser": asdict(regulariser)}
    if part != 1:
        settings["part of the steps"] = part
    return Method(options.name, options.knob, options.values, run, settings)
