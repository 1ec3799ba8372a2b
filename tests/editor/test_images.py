"""Every kind of picture comes in, by the stated rules, or is refused with its shape in the message."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, features
from PIL.PngImagePlugin import PngInfo

from editor import images
from editor.errors import PictureError
from editor.evaluation import white
from editor.images import (
    check_mask,
    fit,
    latent_mask,
    one_picture,
    pad_to_multiple,
    read_picture,
    to_pictures,
    to_pixels,
)

MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
DEEP = {"I": "<i4", "I;16": "<u2", "I;16B": ">u2"}
MODES += ["F", *DEEP]


def sample(mode: str, width: int = 9, height: int = 7) -> Image.Image:
    if mode in DEEP:
        ramp = np.linspace(0, 65535, width * height).reshape(height, width)
        return Image.fromarray(ramp.astype(DEEP[mode]))
    if mode == "F":
        return Image.fromarray(np.linspace(0, 1, width * height, dtype=np.float32).reshape(height, width))
    data = np.linspace(0, 255, width * height * 3).astype(np.uint8).reshape(height, width, 3)
    rgb = Image.fromarray(data)
    if mode == "PA":
        return rgb.convert("P").convert("PA")
    if mode in ("La", "RGBa"):
        return rgb.convert("L" if mode == "La" else "RGB").convert(mode[:-1] + "A").convert(mode)
    if mode == "LAB":
        return ImageCms.profileToProfile(  # type: ignore[return-value]
            rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    return rgb.convert(mode)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode(mode: str) -> None:
    picture = sample(mode)
    assert picture.mode == mode
    pixels = to_pixels(picture)
    assert pixels.shape == (1, 3, 7, 9)
    assert pixels.dtype == torch.float32
    assert -1 <= pixels.min() < pixels.max() <= 1
    # The ramp runs from dark to light in every mode.
    if mode not in ("P", "PA", "HSV"):
        assert pixels[..., 0, :4].mean() < -0.5 and pixels[..., -1, -4:].mean() > 0.5


def test_values_are_those_of_the_picture() -> None:
    rgb = sample("RGB")
    expected = 2 * (np.asarray(rgb).astype(np.float32) / 255) - 1
    assert np.array_equal(to_pixels(rgb)[0].permute(1, 2, 0).numpy(), expected)
    assert torch.equal(to_pixels(np.asarray(rgb)), to_pixels(rgb))
    assert to_pictures(to_pixels(rgb))[0].tobytes() == rgb.tobytes()
    deep = np.array([[0, 256 * 200 + 77]], np.uint16)
    assert torch.equal(to_pixels(deep), to_pixels(np.array([[0, 200]], np.uint8)))
    assert torch.equal(to_pixels(Image.fromarray(deep)), to_pixels(deep))


def test_transparency_goes_over_white() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert torch.equal(to_pixels(clear), torch.ones(1, 3, 4, 4))
    assert torch.equal(to_pixels(np.asarray(clear)), torch.ones(1, 3, 4, 4))
    grey = torch.tensor([0.0, 0.5])[:, None, None].expand(2, 4, 4)
    assert torch.allclose(to_pixels(grey), torch.zeros(1, 3, 4, 4))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.info["transparency"] = 1
    assert torch.equal(to_pixels(palette), torch.ones(1, 3, 4, 4))


def test_rotation_from_exif(tmp_path: Path) -> None:
    picture = sample("RGB", 8, 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    assert read_picture(tmp_path / "turned.png").tobytes() == picture.rotate(-90, expand=True).tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_rotation_is_made_once(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for ending in ("png", "tiff", "webp"):
        sample("RGB", 8, 4).save(tmp_path / f"turned.{ending}", exif=exif)
        with Image.open(tmp_path / f"turned.{ending}") as image:
            expected = ImageOps.exif_transpose(image).convert("RGB")
        upright = read_picture(tmp_path / f"turned.{ending}")
        assert upright.size == expected.size and upright.tobytes() == expected.tobytes()
        assert read_picture(upright).tobytes() == upright.tobytes()


@pytest.mark.parametrize(
    ("tag", "kind", "value"),
    [(282, 2, b"72 dpi\0\0"), (256, 12, bytes(8)), (531, 5, bytes([1, 0, 0, 0] * 2))],
)
def test_a_mistyped_tag_beside_the_rotation(tag: int, kind: int, value: bytes, tmp_path: Path) -> None:
    rows = [
        (0x0112, 3, 1, (6).to_bytes(4, "little")),
        (tag, kind, 8 if kind == 2 else 1, (38).to_bytes(4, "little")),
    ]
    entries = b"".join(
        a.to_bytes(2, "little") + b.to_bytes(2, "little") + n.to_bytes(4, "little") + v
        for a, b, n, v in sorted(rows)
    )
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + entries + bytes(4) + value
    picture = sample("RGB", 8, 4)
    picture.save(tmp_path / "plain.jpg")
    picture.save(tmp_path / "odd.jpg", exif=exif)
    expected = read_picture(tmp_path / "plain.jpg").rotate(-90, expand=True)
    assert read_picture(tmp_path / "odd.jpg").tobytes() == expected.tobytes()


def test_exif_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    picture = sample("RGB", 8, 4)
    picture.save(tmp_path / "odd.png", exif=b"Exif\0\0nothing of the kind")
    assert read_picture(tmp_path / "odd.png").tobytes() == picture.tobytes()


def _wide_profile() -> bytes:
    """An RGB profile that is not sRGB: linear light, made from sRGB's by a gamma of 1 in each curve."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(data[128:132], "big")
    for k in range(count):
        entry = 132 + 12 * k
        tag, offset = bytes(data[entry : entry + 4]), int.from_bytes(data[entry + 4 : entry + 8], "big")
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            data[offset : offset + 4] = b"curv"
            data[offset + 8 : offset + 12] = (0).to_bytes(4, "big")
        if tag == b"desc":
            text = "sRGB".encode("utf-16-be")
            where = data.find(text, offset)
            if where >= 0:
                data[where : where + len(text)] = "wide".encode("utf-16-be")
    return bytes(data)


def test_icc_profile(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 4), (64, 64, 64))
    picture.save(tmp_path / "wide.png", icc_profile=_wide_profile())
    value = read_picture(tmp_path / "wide.png").getpixel((0, 0))
    assert all(135 <= channel <= 139 for channel in value)  # linear 64/255 is 137 in sRGB
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, profile in (("srgb.png", srgb), ("broken.png", b"no profile at all")):
        picture.save(tmp_path / name, icc_profile=profile)
        assert read_picture(tmp_path / name).getpixel((0, 0)) == (64, 64, 64)
    grey = picture.convert("L")
    grey.save(tmp_path / "grey.png", icc_profile=_wide_profile())
    assert read_picture(tmp_path / "grey.png").getpixel((0, 0)) == (64, 64, 64)


def test_files_that_are_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PictureError, match=r"nothing\.png: no such file"):
        read_picture(tmp_path / "nothing.png")
    with pytest.raises(PictureError, match="is a folder"):
        read_picture(tmp_path)
    (tmp_path / "words.png").write_text("not a picture")
    with pytest.raises(PictureError, match=r"words\.png is not a picture"):
        read_picture(tmp_path / "words.png")
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF"):
        whole = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(whole, kind)
        cut = tmp_path / f"cut.{kind.lower()}"
        cut.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
        with pytest.raises(PictureError, match=f"cut.{kind.lower()} is"):
            read_picture(cut)
    if features.check("avif"):
        whole = io.BytesIO()
        sample("RGB", 64, 64).save(whole, "AVIF")
        spoilt = bytearray(whole.getvalue())
        spoilt[-40:] = b"x" * 40
        (tmp_path / "spoilt.avif").write_bytes(spoilt)
        with pytest.raises(PictureError, match=r"spoilt\.avif is damaged or cut short"):
            read_picture(tmp_path / "spoilt.avif")
    sample("RGB", 30, 20).save(tmp_path / "large.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 500)
    with pytest.raises(PictureError, match="30×20 pixels, more than 500"):
        read_picture(tmp_path / "large.png")
    with pytest.raises(PictureError, match="30×20 pixels"):
        read_picture(sample("RGB", 30, 20))


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    with pytest.raises(PictureError, match=r"^cannot read .*circle\.png: too many levels of symbolic links$"):
        read_picture(tmp_path / "circle.png")


@pytest.mark.parametrize("packed", [True, False])
def test_more_text_than_pillow_reads_is_not_called_damage(
    packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = PngInfo()
    info.add_text("parameters", "x" * 2**21, zip=packed)
    sample("RGB").save(tmp_path / "long.png", pnginfo=info)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 2**20)
    with pytest.raises(PictureError, match=r"long\.png carries more text.* save it again without that"):
        read_picture(tmp_path / "long.png")


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample("L", 64, 64).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(PictureError, match="make it smaller first"):
        read_picture(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((2, 3, 4, 5, 6), np.uint8), r"shape \(2, 3, 4, 5, 6\) is no picture"),
        (np.zeros((3, 8, 9), np.uint8), r"shape \(3, 8, 9\) is no picture"),
        (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\) is no picture"),
        (np.zeros(5, np.uint8), r"shape \(5,\) is no picture"),
        (np.zeros((4, 4), np.int64), "int64 is no picture"),
        (np.full((4, 4, 3), 200.0), r"values from 200 to 200; expected 0 to 1 \(0 to 255 is for uint8\)"),
        (np.full((4, 4, 3), np.nan), "values from nan"),
        (torch.zeros(4), r"tensor of shape \(4,\) is no picture"),
        (torch.zeros(1, 5, 4, 4), r"\(1, 5, 4, 4\) is no picture"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "torch.int64 is no picture"),
        (torch.full((3, 4, 4), -3.0), "values from -3 to -3; expected -1 to 1"),
        ([], "the list is empty"),
        ([np.zeros((4, 4)), np.zeros((4, 5))], r"differ in size \(height, width\): \[\(4, 4\), \(4, 5\)\]"),
        (7, "this is int"),
        (None, "this is NoneType"),
    ],
)
def test_wrong_shapes_and_types(wrong: Any, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        to_pixels(wrong)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        dtype=st.sampled_from([np.uint8, np.uint16, np.float32, np.float64]),
        shape=st.one_of(
            st.tuples(st.integers(1, 12), st.integers(1, 12)),
            st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4)),
            st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), st.integers(1, 4)),
        ),
        elements={"min_value": 0, "max_value": 1},
    )
)
def test_any_array_in_range(array: np.ndarray) -> None:
    pixels = to_pixels(array)
    assert pixels.shape[1] == 3 and pixels.dtype == torch.float32
    assert pixels.min() >= -1 and pixels.max() <= 1


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), multiple=st.sampled_from([1, 2, 4, 8]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_padding_repeats_the_border_and_is_cut_off_again(
    height: int, width: int, multiple: int, seed: int
) -> None:
    array = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    padded = pad_to_multiple(to_pixels(array), multiple)
    assert padded.shape[2] % multiple == 0 and padded.shape[3] % multiple == 0
    assert padded.shape[2] - height < multiple and padded.shape[3] - width < multiple
    assert torch.equal(padded[..., -1, :width], to_pixels(array)[..., -1, :])
    assert np.array_equal(np.asarray(to_pictures(padded, (width, height))[0]), array)


def test_fit_keeps_proportions() -> None:
    assert fit(sample("RGB", 100, 50), 10).size == (20, 10)
    assert fit(sample("RGB", 50, 100), 200).size == (200, 400)
    assert fit(sample("RGB", 1000, 1), 1).size == (1000, 1)


def test_tensor_ranges_and_batches() -> None:
    signed = torch.linspace(-1, 1, 48).view(3, 4, 4)
    assert torch.equal(to_pixels(signed)[0], signed)
    assert torch.allclose(to_pixels(signed / 2 + 0.5)[0], signed, atol=1e-6)
    bytes_ = (torch.arange(48) * 5).to(torch.uint8).view(3, 4, 4)
    assert torch.equal(to_pixels(bytes_), to_pixels(bytes_.permute(1, 2, 0).numpy()))
    mixed = [sample("RGB", 4, 4), bytes_, np.zeros((4, 4))]
    assert to_pixels(mixed).shape == (3, 3, 4, 4)
    assert one_picture(bytes_).size == (4, 4)
    rounded = signed / 2 + 0.5
    rounded[0, 0, 0] = -1e-7
    assert torch.allclose(to_pixels(rounded)[0], signed, atol=1e-6), "rounding is no other range"
    mask = torch.arange(16).view(4, 4) % 3 == 0
    assert torch.equal(to_pixels(mask), to_pixels(mask.numpy()))
    assert torch.equal(to_pixels(mask[None]), to_pixels(mask.float()))
    with pytest.raises(PictureError, match="got a batch of 3"):
        one_picture(mixed)


def test_32_bit_greys_of_8_bits_are_those(tmp_path: Path) -> None:
    grey = np.arange(256).reshape(16, 16)
    eight = np.asarray(read_picture(Image.fromarray(grey.astype(np.int32))))
    assert np.array_equal(eight[..., 0], grey)
    sixteen = np.asarray(read_picture(Image.fromarray((grey * 257).astype(np.int32))))
    assert np.array_equal(sixteen, eight)
    dark = Image.fromarray(grey.astype(np.uint16))
    assert not np.asarray(read_picture(dark)).any(), "16 bits say what they are of"
    (tmp_path / "dark.pgm").write_bytes(b"P5 16 16 65535\n" + grey.astype(">u2").tobytes())
    assert not np.asarray(read_picture(tmp_path / "dark.pgm")).any()


def test_what_is_transparent_in_a_mask_is_black(tmp_path: Path) -> None:
    shape = Image.new("RGBA", (8, 4), (255, 255, 255, 0))
    shape.paste((255, 255, 255, 255), (0, 0, 4, 4))
    shape.save(tmp_path / "shape.png")
    array = np.asarray(shape)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for mask in (tmp_path / "shape.png", shape, shape.convert("LA"), array, tensor):
        assert torch.equal(latent_mask(mask, (8, 4), 4), torch.tensor([[[[1.0, 0.0]]]]))
        assert white(mask, (8, 4))[:, 4:].max() == 0


def test_a_mask_of_0_and_1_is_refused(tmp_path: Path) -> None:
    mask = np.zeros((8, 12), np.uint8)
    with pytest.raises(PictureError, match="is black"):
        check_mask(mask)
    mask[:, 6:] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for wrong, name in (
        (mask, ""),
        (torch.from_numpy(mask)[None], ""),
        (tmp_path / "mask.png", ".*mask.png"),
    ):
        with pytest.raises(PictureError, match=f"value of the mask{name} is 1 of 255.* multiply .* by 255"):
            check_mask(wrong)
    for right in (mask.astype(bool), mask * 255, mask * 2, mask.astype(np.float32)):
        check_mask(right)


def test_mask_is_averaged_over_latents() -> None:
    mask = np.zeros((8, 12), np.uint8)
    mask[:, 6:] = 255
    found = latent_mask(mask, (12, 8), 4)
    assert torch.allclose(found, torch.tensor([[0.0, 0.5, 1.0]] * 2)[None, None], atol=1e-6)
    assert latent_mask(mask, (10, 9), 4).shape == (1, 1, 3, 3)
