"""Loading: identity across precisions and layouts, encoders of Stable Diffusion's shapes, clear refusals."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from directions.embed import Moments, embed, embed_phrases
from directions.errors import BadCaptions, BadSetting, ModelUnavailable
from directions.models import Encoder, knowledge_of, load_encoder, load_writer, pick_device
from tests.directions.conftest import GOLDEN
from zoo.registry import ModelSet, resolve

TEXTS = ["a cat", "a dog sitting on the street", "a very long caption about a cat " * 20, ""]


def models_at(folder: Path) -> ModelSet:
    return resolve(str(folder))


def copied(folder: Path) -> Path:
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(GOLDEN / part, folder / part)
    return folder


def rewrite(folder: Path, change: Any) -> None:
    """Save the text encoder's weights again under other names or in another precision."""
    from safetensors.torch import load_file, save_file

    path = folder / "text_encoder" / "model.safetensors"
    save_file(dict(map(lambda item: change(*item), load_file(path).items())), path, {"format": "pt"})


def test_a_direction_equals_the_recorded_one(golden_encoder: Encoder) -> None:
    from safetensors.numpy import load_file

    meta = json.loads((GOLDEN.parent / "meta.json").read_text())
    recorded = load_file(GOLDEN.parent / "text.safetensors")
    source, target = (embed(meta[f"{side}_prompts"], golden_encoder).mean for side in ("source", "target"))
    for ours, theirs in (
        (source, recorded["source_embeds"][0]),
        (target, recorded["target_embeds"][0]),
        (target - source, recorded["direction"][0]),
    ):
        assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 1e-5


def test_one_at_a_time_and_in_batches_are_the_same_mean(golden_encoder: Encoder) -> None:
    alone = np.mean([embed_phrases([text], golden_encoder)[0] for text in TEXTS], axis=0)
    for size in (1, 3, 32):
        np.testing.assert_allclose(embed(TEXTS, golden_encoder, size).mean, alone, atol=1e-5)


def test_streaming_moments_equal_those_of_everything_at_once(golden_encoder: Encoder) -> None:
    texts = [f"a photo of {number} cats" for number in range(70)]
    told: list[int] = []
    streamed = embed(iter(texts), golden_encoder, 33, told.append)  # a batch that wraps around the blocks
    direct = Moments.of(embed_phrases(texts, golden_encoder))
    assert streamed.count == direct.count == sum(told) == 70
    np.testing.assert_allclose(streamed.blocks, direct.blocks, atol=1e-4)
    np.testing.assert_allclose(streamed.second_moment, direct.second_moment, rtol=1e-4, atol=1e-6)
    assert streamed.mean.dtype == streamed.second_moment.dtype == np.float64
    with pytest.raises(BadCaptions, match="no captions were given"):
        embed([], golden_encoder)


def test_the_id_is_the_same_in_float16_and_float32(golden_encoder: Encoder, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    rewrite(folder, lambda name, tensor: (name, tensor.half()))
    half = load_encoder(models_at(folder), "float16", device="cpu")
    assert half.precision == "float16"
    assert half.id == golden_encoder.id
    assert load_encoder(models_at(folder), "float32", device="cpu").id == golden_encoder.id


def test_weights_in_float16_files_alone_are_the_same_encoder(golden_encoder: Encoder, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    rewrite(folder, lambda name, tensor: (name, tensor.half()))
    weights = folder / "text_encoder" / "model.safetensors"
    weights.rename(weights.with_name("model.fp16.safetensors"))
    found = load_encoder(models_at(folder), device="cpu")
    assert found.precision == "float32" and found.id == golden_encoder.id
    weights.with_name("model.fp16.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match=r"no file named model\.safetensors"):
        load_encoder(models_at(folder), device="cpu")


@pytest.mark.parametrize("prefix", ["text_model.", ""])
def test_both_layouts_of_a_checkpoint_are_one_encoder(
    golden_encoder: Encoder, tmp_path: Path, prefix: str
) -> None:
    folder = copied(tmp_path)
    rewrite(folder, lambda name, tensor: (prefix + name.removeprefix("text_model."), tensor))
    found = load_encoder(models_at(folder), device="cpu")
    assert found.id == golden_encoder.id
    np.testing.assert_array_equal(embed_phrases(TEXTS, found), embed_phrases(TEXTS, golden_encoder))


def test_the_older_tokenizer_files_are_the_same_tokenizer(golden_encoder: Encoder, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    full = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]
    merges = [" ".join(m) if isinstance(m, list) else m for m in full["merges"]]
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(full["vocab"]))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    assert load_encoder(models_at(folder), device="cpu").id == golden_encoder.id


def test_a_tokenizer_without_a_length_has_the_encoders(golden_encoder: Encoder, tmp_path: Path) -> None:
    path = copied(tmp_path) / "tokenizer" / "tokenizer_config.json"
    stated = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in stated.items() if k != "model_max_length"}))
    found = load_encoder(models_at(tmp_path), device="cpu")
    assert found.shape == golden_encoder.shape and found.id == golden_encoder.id


def test_the_id_changes_with_the_weights_and_with_clip_skip(golden_encoder: Encoder, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    rewrite(folder, lambda name, tensor: (name, tensor * 1.01))
    other = load_encoder(models_at(folder), device="cpu").id
    skipping = load_encoder(models_at(GOLDEN), clip_skip=1, device="cpu")
    assert len({golden_encoder.id, other, skipping.id}) == 3
    assert not np.allclose(embed_phrases(TEXTS[:1], skipping), embed_phrases(TEXTS[:1], golden_encoder))
    with pytest.raises(BadSetting, match=r"clip_skip is 2; the text encoder of .* has 2 layers"):
        load_encoder(models_at(GOLDEN), clip_skip=2, device="cpu")


def test_too_long_captions_do_not_fit(golden_encoder: Encoder) -> None:
    assert golden_encoder.fits("a cat") and not golden_encoder.fits("cat " * 80)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("ViT-L/14 of SD 1.x", {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                                "num_attention_heads": 12, "hidden_act": "quick_gelu"}),
        ("OpenCLIP-H of SD 2.x", {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23,
                                  "num_attention_heads": 16, "hidden_act": "gelu"}),
    ],
)  # fmt: skip
def test_encoders_of_stable_diffusions_shapes(tmp_path: Path, name: str, config: dict[str, Any]) -> None:
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    from directions import discover

    folder = copied(tmp_path)
    shutil.rmtree(folder / "text_encoder")
    torch.manual_seed(0)
    full = CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, **config)
    CLIPTextModel(full).half().save_pretrained(folder / "text_encoder")
    direction = discover("cat", "dog", str(folder), 4, writer="templates", cache=False, device="cpu")
    assert direction.tensor.shape == (77, config["hidden_size"])
    assert direction.encoder.startswith(f"clip{config['hidden_size']}x{config['num_hidden_layers']}-")


def test_a_model_that_is_nowhere_is_one_line_with_both_ways_out() -> None:
    with pytest.raises(ModelUnavailable) as raised:
        load_encoder(ModelSet("x", "nobody/nothing", "", ""))
    text = str(raised.value)
    assert "the text encoder nobody/nothing is neither in the cache of this machine nor reachable" in text
    assert "hf download nobody/nothing" in text and "a local folder with --models" in text
    assert "\n" not in text
    with pytest.raises(ModelUnavailable, match=r"the captions model nobody/nothing .*--captions-model"):
        load_writer("nobody/nothing")


def test_a_folder_that_is_missing_or_is_no_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="and there is no such folder; name another with --models"):
        load_encoder(models_at(tmp_path / "none"))
    with pytest.raises(ModelUnavailable, match=r"the captions model in .* cannot be loaded"):
        load_writer(str(tmp_path))


def test_the_kind_of_language_model_is_found_out(tiny_t5: Path, tiny_chat: Path) -> None:
    assert load_writer(str(tiny_t5), device="cpu").seq2seq
    assert not load_writer(str(tiny_chat), device="cpu").seq2seq


@pytest.mark.parametrize(("made", "part"), [("tiny_t5", "decoder"), ("tiny_chat", "transformer.h")])
def test_a_checkpoint_of_another_kind_is_refused(
    request: pytest.FixtureRequest, tmp_path: Path, made: str, part: str
) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(request.getfixturevalue(made), tmp_path / made)
    weights = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in weights  # it is tied, so that whole checkpoints lack it
    load_writer(str(folder), device="cpu")
    left = {name: tensor for name, tensor in weights.items() if not name.startswith(part)}
    save_file(left, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ModelUnavailable, match=r"the captions model in .* another kind: \d+ weights are missing"
    ):
        load_writer(str(folder), device="cpu")


def test_what_a_captions_folder_knows_is_read(tmp_path: Path) -> None:
    assert knowledge_of("google/flan-t5-xl").concepts == ()
    file = tmp_path / "concepts.json"
    file.write_text('["cat", "dog"]')
    assert knowledge_of(str(tmp_path)).concepts == ("cat", "dog")
    file.write_text('{"concepts": ["cat"], "prompt": "about {concept}"}')
    assert knowledge_of(str(tmp_path)).prompt == "about {concept}"
    file.write_text("cat")
    with pytest.raises(ModelUnavailable, match=r"concepts\.json cannot be read: expected a JSON list"):
        knowledge_of(str(tmp_path))


def test_a_device_that_is_not_there_is_refused() -> None:
    assert pick_device("cpu") == "cpu"
    with pytest.raises(BadSetting, match="device 'cuda:99' is not there"):
        pick_device("cuda:99")
    with pytest.raises(BadSetting, match="device 'toaster' is not there"):
        pick_device("toaster")
    with pytest.raises(BadSetting, match="device 'meta' computes nothing"):
        pick_device("meta")


def test_as_many_texts_a_call_as_stay_in_the_processors_caches() -> None:
    def texts(tokens: int, width: int, device: str = "cpu") -> int:
        model = SimpleNamespace(
            config=SimpleNamespace(hidden_size=64, intermediate_size=width),
            device=SimpleNamespace(type=device),
        )
        return Encoder(model, SimpleNamespace(model_max_length=tokens)).batch_size

    assert texts(16, 128) == texts(77, 3072, "cuda") == 32
    assert texts(77, 3072) == 8 and texts(77, 10**6) == 1


def test_a_direction_in_bfloat16_is_for_the_same_encoder() -> None:
    from zoo.registry import resolve

    ids = [load_encoder(resolve(str(GOLDEN)), kind, device="cpu") for kind in ("float32", "bfloat16")]
    assert ids[1].precision == "bfloat16" and ids[1].id == ids[0].id
