"""`--auto`: which trials are made, which of them is chosen, what is said, and that an edit is repeated without them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.zoo import as_tensor
from editor import auto
from editor.auto import GUIDANCE, STEPS, STRENGTHS, THERE, Trial, choose, most_steps, rehearsal
from editor.errors import EditorError
from editor.inversion import Inversion
from editor.presence import PresenceUnknown
from editor.record import read_record
from library import Library
from zoo.recipe.judge import load_judge

from .command_line import draw_cat, failed, loaded, pixels, run, worked
from .embedded import cat2dog, editor, inversion


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[float], float]]:
    """Stands in for the trials: their presence is their strength less some, and less is more structure."""
    calls: list[tuple[list[float], float]] = []

    def stand_in(
        start: Inversion, direction: Any, strengths: Any, guidance: float, shared: Any
    ) -> list[Trial]:
        calls.append((list(strengths), guidance))
        return [trial(s, guidance) for s in strengths]

    monkeypatch.setattr(auto, "_tried", stand_in)
    return calls


def trial(strength: float, guidance: float) -> Trial:
    return Trial(
        strength, guidance, strength - guidance / 3 - 0.3, 1 - strength / 4 + guidance / 8, 0.0, 20.0
    )


def test_the_least_change_that_is_there_is_chosen(tried: list[Any]) -> None:
    choice = inversion().auto(cat2dog())
    assert tried == [(list(STRENGTHS), 0.1)] + [([1.0], round(factor * 0.1, 9)) for factor in GUIDANCE]
    assert (choice.strength, choice.guidance, choice.there) == (1.0, 0.3, True)
    assert choice.settings == {"strength": 1.0, "cross_attention_guidance": 0.3}
    assert choice.reason.startswith(
        "strength 1, guidance 0.3: the least change among the 4 of 6 trials that are clearly nearer to 'dog' than "
        "to 'cat' (presence 0.60"
    )
    assert len(choice.trials) == 6 and json.loads(json.dumps(asdict(choice)))["trials"][0]["strength"] == 0.5


def test_the_steps_asked_for_are_those_of_the_inversion(tried: list[Any]) -> None:
    longer = replace(inversion(), steps=STEPS + 1)
    assert choose(longer, cat2dog(), steps=STEPS + 1).strength == 1.0
    with pytest.raises(EditorError, match=f"the inversion has {STEPS + 1} steps"):
        choose(longer, cat2dog(), steps=STEPS)


def test_what_is_given_stays(tried: list[Any]) -> None:
    assert choose(inversion(), cat2dog(), strength=0.9).strength == 0.9
    assert tried == [([0.9], 0.1), ([0.9], 0.0), ([0.9], 0.3)]
    tried.clear()
    assert choose(inversion(), cat2dog(), guidance=0.05).guidance == 0.05
    assert tried == [(list(STRENGTHS), 0.05)]
    tried.clear()
    assert choose(inversion(), cat2dog(), cross_attention_guidance=0.0).guidance == 0
    assert tried == [(list(STRENGTHS), 0.0)]


def test_a_weak_trial_is_not_there_beside_far_stronger_ones() -> None:
    """Presence is in parts of the picture's own, which is next to nothing where the models hardly tell it."""
    weak, strong, stronger = (
        Trial(s, 0.1, p, 1 - s / 4, 0.0, 20.0) for s, p in ((0.5, 1.3), (1, 5), (1.5, 7))
    )
    assert auto._best([weak, strong, stronger]) == strong
    assert auto._best([weak]) == weak


def test_where_nothing_is_there_the_strongest_is_taken_and_said(tried: list[Any]) -> None:
    choice = choose(inversion(), cat2dog(), strength=0.3)
    assert (choice.strength, choice.guidance, choice.there) == (0.3, 0.0, False)
    assert "none of 3 trials is clearly nearer to 'dog' than to 'cat' (presence 0.00" in choice.reason
    assert f"presence {THERE:g} expected" in choice.reason and "--strength above 0.3" in choice.reason


def test_what_cannot_be_told_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(edits: Any) -> list[float]:
        raise PresenceUnknown("the models cannot tell")

    monkeypatch.setattr(auto, "presence", unknown)
    choice = choose(inversion(), cat2dog())
    assert (choice.strength, choice.guidance, choice.there, choice.trials) == (1.0, 0.1, False, ())
    assert choice.reason == "strength 1, guidance 0.1, as by default: the models cannot tell"


def test_the_chosen_edit_is_there_and_keeps_more_than_the_default() -> None:
    steps: list[int] = []

    def on_step(stage: str, i: int, timestep: float, latents: torch.Tensor) -> None:
        steps.append(0 if stage == "reference" else len(latents))

    choice = choose(inversion(), cat2dog(), on_step=on_step)
    assert choice.there and {t.strength for t in choice.trials} == set(STRENGTHS)
    default = next(t for t in choice.trials if t.strength == 1 and t.guidance == 0.1)
    chosen = next(t for t in choice.trials if choice.settings == knobs(t))
    assert chosen.structure >= default.structure and chosen.presence >= THERE
    assert [t.drift > 0 for t in choice.trials] == [t.guidance > 0 for t in choice.trials]
    image = inversion().edit(cat2dog(), **choice.settings).image
    assert load_judge().judge(as_tensor([image]))[0].object == "dog"
    assert sum(steps) <= most_steps(inversion().steps)


def knobs(trial: Trial) -> dict[str, float]:
    return {"strength": trial.strength, "cross_attention_guidance": trial.guidance}


def test_a_rehearsal_is_the_same_start_in_fewer_steps() -> None:
    assert rehearsal(inversion()) is inversion()
    longer = replace(inversion(), steps=STEPS + 1, negative_prompt="a fox")
    short = rehearsal(longer)
    assert short.steps == STEPS and short.negative_prompt == "a fox"
    assert short.latents is not None and longer.latents is not None
    assert torch.equal(short.latents, longer.latents)
    synthetic = editor().imagine("a cat on the grass", 50, seed=3)
    assert rehearsal(synthetic).steps == STEPS and torch.equal(rehearsal(synthetic).noise, synthetic.noise)


@pytest.fixture
def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private_folders: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("editor.session.load_models", loaded)
    monkeypatch.setattr("library.settings.STARTER", tmp_path / "no-starter")
    draw_cat(tmp_path / "cat.png")
    Library().save(cat2dog())


def test_the_command_chooses_says_records_and_repeats(at_work: None) -> None:
    result = worked("cat.png", "-d", "cat2dog", "--steps", 3, "--auto", "-o", "out.png")
    record = read_record("out.png")
    chosen = record["auto"]
    assert f"cat.png, cat2dog: {chosen['reason']}" in result.stderr
    assert record["strength"] == chosen["strength"] and len(chosen["trials"]) == 6
    assert record["settings"]["cross_attention_guidance"] == chosen["guidance"]
    again = worked("--from", "out.png")
    assert "trials" not in again.stderr
    assert Path("out-again.png").read_bytes() == Path("out.png").read_bytes()
    worked("--from", "out.png", "--strength", 0.3, "-o", "weaker.png")
    assert "auto" not in read_record("weaker.png")
    worked("--from", "out.png", "--auto", "-o", "anew.png")
    assert read_record("anew.png")["auto"] == chosen
    assert pixels("anew.png").tobytes() == pixels("out.png").tobytes()


def test_the_command_keeps_what_is_given_for_pictures_and_prompts(
    at_work: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edits of one batch whose guidance differs are made apart."""
    draw_cat(Path("other.png"))
    seen: list[Any] = []

    def stand_in(start: Inversion, direction: Any, strength: Any, guidance: Any, **settings: Any) -> Any:
        seen.append((strength, guidance, settings["mask"], settings["guidance_scale"]))
        return auto.Choice(0.5 + len(seen) / 4, len(seen) / 100, True, "so it is")

    monkeypatch.setattr(auto, "choose", stand_in)
    common = ["-d", "cat2dog", "--steps", 1, "--auto", "--guidance-scale", 2, "--caption", "a cat"]
    result = worked("cat.png", "other.png", *common, "--batch", 2)
    assert seen == [(None, None, None, 2.0)] * 2 and "other.png, cat2dog: so it is" in result.stderr
    for name, strength, guidance in (("cat", 0.75, 0.01), ("other", 1.0, 0.02)):
        record = read_record(f"{name}-cat2dog.png")
        assert (record["strength"], record["settings"]["cross_attention_guidance"]) == (strength, guidance)
        assert record["batch"] == 1 and record["auto"]["reason"] == "so it is"
    seen.clear()
    worked("cat.png", *common, "--guidance", 0.2, "-o", "given.png")
    worked("cat.png", *common, "--strength", 2, "-o", "strong.png")
    assert seen == [(None, 0.2, None, 2.0), (2.0, None, None, 2.0)]
    worked("--prompt", "a cat", "-d", "cat2dog", "--steps", 2, "--auto", "--guidance-scale", 2)
    assert read_record("prompt-cat2dog.png")["auto"]["there"]


def test_auto_with_nothing_to_choose_is_refused(at_work: None) -> None:
    for options, message in (
        (["--strength", 1, "--guidance", 0], "--strength and --guidance are both given"),
        (["--sweep", "strength=1,2"], "--auto and --sweep exclude each other"),
    ):
        result = run("cat.png", "-d", "cat2dog", "--auto", *options)
        assert result.exit_code == 2 and message in result.stderr
    failed(run("cat.png", "-d", "cat2dog", "--auto", "--guidance-until", 2), "guidance_until is 2")


def test_going_back_is_chosen_by_the_end_that_it_goes_to() -> None:
    forward = choose(inversion(), cat2dog(), strength=1.0)
    back = choose(inversion(), -cat2dog(), strength=-1.0)
    assert back.strength == -1 and back.there is forward.there
    assert [t.presence for t in back.trials] == pytest.approx([t.presence for t in forward.trials], abs=1e-3)
    assert "'cat'" in back.reason and "nearer to 'dog'" in back.reason


def test_of_a_prompt_the_remedy_is_another_prompt(tried: list[Any]) -> None:
    choice = choose(replace(inversion(), latents=None), cat2dog(), strength=0.3)
    assert "or a --prompt that says" in choice.reason
