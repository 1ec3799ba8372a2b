"""Pictures in and out: any file, PIL image, array or tensor to RGB in [-1, 1], and back.

The rules, the same everywhere: EXIF rotation is applied; colours are converted to sRGB; transparency goes
over white, a mask's over black; 16-bit greys keep their top 8 bits; sizes that the autoencoder cannot take are
padded at the right and the bottom with the border's own pixels (never squashed), and cut off again after decoding.
"""

from __future__ import annotations

import io
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from editor.errors import PictureError

if TYPE_CHECKING:
    import torch

#: More pixels than this are refused: a small file can unpack to gigabytes. Pillow only warns at this number.
MAX_PIXELS = 89_478_485
#: The longer side over the shorter one, which is what is brought to the models' size.
MOST_ELONGATED = 16
#: What transparency goes over: pictures over white, masks over black, since what is not there may not change.
WHITE, BLACK = 255, 0
#: EXIF orientation → what puts the picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: Where Pillow keeps what may say how a picture is turned.
_TURNED_BY = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
#: How far rounding may take a float out of its range.
RANGE_SLACK = 1e-3
_DEEP_GREY = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def read_picture(source: str | PathLike[str] | Image.Image, background: int = WHITE) -> Image.Image:
    """A picture file or PIL image as 8-bit sRGB, upright, over a grey. Animations give their first frame.

    Raises PictureError, naming the file, where it is missing, no picture, cut short, or larger than
    `MAX_PIXELS`.
    """
    if isinstance(source, Image.Image):
        return _to_rgb(source, background)
    path = Path(source)
    try:
        with Image.open(path) as image:
            check_pixels(image.size, str(path))
            image.load()
            return _to_rgb(image, background)
    except (PictureError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise PictureError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise PictureError(f"{path} is a folder; expected a picture file") from error
    except UnidentifiedImageError as error:
        raise PictureError(f"{path} is not a picture that Pillow can read (PNG, JPEG, WebP, ...)") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"{path}: more than {MAX_PIXELS} pixels; make it smaller first") from error
    except Exception as error:  # each plugin has its own way to fail on a damaged file
        if isinstance(error, OSError) and error.errno is not None:
            raise PictureError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
        if "MAX_TEXT_" in str(error):  # Pillow's limits on what a PNG carries beside its pixels
            raise PictureError(
                f"{path} carries more text, or a larger colour profile, than is read; save it again without that"
            ) from error
        raise PictureError(f"{path} is damaged or cut short: {error}") from error


def to_pixels(pictures: Any, background: int = WHITE) -> torch.Tensor:
    """Any picture or batch of equally large ones to `[B, 3, H, W]` float32 in [-1, 1], on the CPU.

    Takes a path, a PIL image, an array `[H, W]`, `[H, W, C]` or `[B, H, W, C]` (bool, uint8, uint16, or
    float in [0, 1]), a tensor `[C, H, W]` or `[B, C, H, W]` (uint8, or float in [0, 1], or in [-1, 1] where any value
    is negative), or a list of these. C is 1 to 4 (grey, grey with alpha, RGB, RGBA). Raises PictureError
    with the shape for anything else.
    """
    import torch

    if isinstance(pictures, (list, tuple)):
        if not pictures:
            raise PictureError("no picture was given: the list is empty")
        parts = [to_pixels(picture, background) for picture in pictures]
        sizes = {tuple(part.shape[2:]) for part in parts}
        if len(sizes) > 1:
            raise PictureError(f"the pictures of one batch differ in size (height, width): {sorted(sizes)}")
        return torch.cat(parts)
    if isinstance(pictures, torch.Tensor):
        return _from_tensor(pictures, background)
    if isinstance(pictures, np.ndarray):
        return _from_array(pictures, background)
    if isinstance(pictures, (str, PathLike, Image.Image)):
        return _from_array(np.asarray(read_picture(pictures, background)), background)
    raise PictureError(
        f"a picture is a path, a PIL image, a NumPy array or a tensor, or a list of these; "
        f"this is {type(pictures).__name__}"
    )


def pad_to_multiple(pixels: torch.Tensor, multiple: int) -> torch.Tensor:
    """`[B, C, H, W]` with height and width padded up to a multiple, by repeating the last row and column."""
    import torch.nn.functional as F

    bottom, right = (-pixels.shape[2]) % multiple, (-pixels.shape[3]) % multiple
    return F.pad(pixels, (0, right, 0, bottom), mode="replicate") if bottom or right else pixels


def fitted_size(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """Width and height of a picture of `size` once its shorter side is `shorter` pixels.

    Raises PictureError where that is more than `MAX_PIXELS`.
    """
    scale = shorter / min(size)
    width, height = (max(1, round(side * scale)) for side in size)
    check_pixels((width, height), f"the picture with a shorter side of {shorter}")
    return width, height


def fit(image: Image.Image, shorter: int) -> Image.Image:
    """The picture at the size whose shorter side is `shorter` pixels; its proportions stay."""
    size = fitted_size(image.size, shorter)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def to_pictures(pixels: torch.Tensor, size: tuple[int, int] | None = None) -> list[Image.Image]:
    """`[B, 3, H, W]` in [-1, 1] (clipped) to PIL images, cut to `size` (width, height) from the top left."""
    values = (pixels.detach().float().cpu() / 2 + 0.5).clamp(0, 1)
    bytes_ = (values.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    images = [Image.fromarray(array) for array in bytes_]
    return images if size is None else [image.crop((0, 0, *size)) for image in images]


def one_picture(source: Any, background: int = WHITE) -> Image.Image:
    """Anything that `to_pixels` takes for one picture, as 8-bit sRGB."""
    if isinstance(source, (str, PathLike, Image.Image)):
        return read_picture(source, background)
    found = to_pictures(to_pixels(source, background))
    if len(found) != 1:
        raise PictureError(f"expected one picture, got a batch of {len(found)}")
    return found[0]


def check_pixels(size: tuple[int, int], what: str) -> None:
    """Raise PictureError for a width and height of more than `MAX_PIXELS`."""
    width, height = size
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"{what} has {width}×{height} pixels, more than {MAX_PIXELS}; make it smaller first"
        )


def check_proportions(picture: Image.Image, source: Any) -> None:
    """Raise PictureError for a picture so elongated that, at the models' size, it would be enormous.

    `source` is what it was read from; the error names a file.
    """
    shorter, longer = sorted(picture.size)
    if longer > MOST_ELONGATED * shorter:
        named = source if isinstance(source, (str, PathLike)) else "the picture"
        raise PictureError(
            f"{named} is {picture.size[0]}×{picture.size[1]}, more than {MOST_ELONGATED} times as long as "
            "wide; cut out the part to edit"
        )


def mask_picture(mask: Any) -> Image.Image:
    """A mask's brightness, 8-bit grey; transparent counts as black."""
    return one_picture(mask, BLACK).convert("L")


def check_mask(mask: Any) -> None:
    """Raise PictureError for a mask that cannot be read, or lets nothing change: it is black, or all but black."""
    brightest = mask_picture(mask).getextrema()[1]
    named = f" {mask}" if isinstance(mask, (str, PathLike)) else ""
    if brightest == 0:
        raise PictureError(f"the mask{named} is black, so nothing may change; what is white in it may")
    if brightest == 1:
        raise PictureError(
            f"the brightest value of the mask{named} is 1 of 255, so next to nothing may change; what may change "
            "is white, 255: multiply a mask of 0 and 1 by 255"
        )


def latent_mask(mask: Any, size: tuple[int, int], factor: int) -> torch.Tensor:
    """A mask picture's brightness averaged over each latent, `[1, 1, h, w]` in [0, 1].

    It is stretched to the `size` (width, height) of the picture that it is for.
    """
    import torch.nn.functional as F

    picture = mask_picture(mask).resize(size, Image.Resampling.BILINEAR)
    return F.avg_pool2d(pad_to_multiple(to_pixels(picture)[:, :1] / 2 + 0.5, factor), factor)


def _to_rgb(image: Image.Image, background: int) -> Image.Image:
    check_pixels(image.size, "the picture")
    if 0 in image.size:
        raise PictureError(f"the picture has no pixels: it is {image.size[0]}×{image.size[1]}")
    profile = image.info.get("icc_profile")
    sixteen = image.mode == "I" and image.format == "PPM"  # a PGM, however dark
    image = _upright(image)
    if image.mode in _DEEP_GREY or image.mode == "F":
        values = np.asarray(image)
        return Image.fromarray(_grey_bytes(values.astype(np.uint16) if sixteen else values)).convert("RGB")
    alpha = None
    if image.mode == "La":
        image = image.convert("LA")  # the only conversion that Pillow has from premultiplied grey
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    elif image.mode in ("P", "1", "PA"):
        image = image.convert("RGB")
    rgb = _to_srgb(image, profile)
    if alpha is None:
        return rgb
    return Image.composite(rgb, Image.new("RGB", rgb.size, (background,) * 3), alpha)


def _upright(image: Image.Image) -> Image.Image:
    """A copy turned as its EXIF or XMP data says, without that data, so that nothing turns it again.

    Pillow's own way to do this writes the data anew, which fails where any of it is odd.
    """
    image.load()
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # what cannot be read says nothing about the picture
        turn = None
    upright = image.copy() if turn is None else image.transpose(turn)
    for key in _TURNED_BY:
        upright.info.pop(key, None)
    return upright


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Through the embedded profile where there is a usable one that is not sRGB itself."""
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return _converted(image, lab, srgb) or image.convert("RGB")
    if profile and image.mode in ("RGB", "L", "CMYK"):
        try:
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "srgb" not in ImageCms.getProfileDescription(embedded).lower():
                converted = _converted(image, embedded, ImageCms.createProfile("sRGB"))
                if converted is not None:
                    return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile says nothing about the colours
    return image.convert("RGB")


def _converted(image: Image.Image, source: Any, target: Any) -> Image.Image | None:
    try:
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, ValueError):
        return None  # the profile is for another kind of picture


def _grey_bytes(values: np.ndarray) -> np.ndarray:
    """8-bit greys of 16-bit ones, of 32-bit ones (of 8 bits, or of 16), of floats in [0, 1] or [0, 255]."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values.astype(np.float64))
        top = 1.0 if values.max(initial=0.0) <= 1.0 else 255.0
        return (values.clip(0, top) / top * 255).round().astype(np.uint8)
    if values.dtype.itemsize == 4 and values.max(initial=0) <= 255:
        return values.clip(0, 255).astype(np.uint8)
    return (values.astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)


def _from_array(array: np.ndarray, background: int) -> torch.Tensor:
    import torch

    given = array.shape
    if array.ndim == 2:
        array = array[None, ..., None]
    elif array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or not 1 <= array.shape[-1] <= 4 or 0 in array.shape:
        raise PictureError(
            f"an array of shape {given} is no picture; expected [H, W], [H, W, C] or [B, H, W, C] "
            "with 1 to 4 channels (latents are passed as a tensor)"
        )
    if array.dtype in (np.uint8, bool):
        values = array.astype(np.float32) / (255 if array.dtype == np.uint8 else 1)
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        values = (array >> 8).astype(np.float32) / 255
    elif array.dtype.kind == "f":
        values = array.astype(np.float32)
        _check_range(float(values.min()), float(values.max()), 0.0, "an array")
    else:
        raise PictureError(
            f"an array of {array.dtype} is no picture or mask; expected bool, uint8, uint16 or float in [0, 1]"
        )
    return 2 * _three_channels(torch.from_numpy(np.moveaxis(values, -1, 1).copy()), background) - 1


def _from_tensor(tensor: torch.Tensor, background: int) -> torch.Tensor:
    import torch

    given = tuple(tensor.shape)
    if tensor.ndim == 2:
        tensor = tensor[None]
    if tensor.ndim == 3:
        tensor = tensor[None]
    if tensor.ndim != 4 or not 1 <= tensor.shape[1] <= 4 or 0 in tensor.shape:
        raise PictureError(
            f"a tensor of shape {given} is no picture; expected [H, W], [C, H, W] or [B, C, H, W] "
            "with 1 to 4 channels"
        )
    if tensor.dtype in (torch.uint8, torch.bool):
        values = tensor.cpu().float() / (255 if tensor.dtype == torch.uint8 else 1)
    elif tensor.dtype.is_floating_point:
        values = tensor.detach().cpu().float()
        low, high = float(values.min()), float(values.max())
        _check_range(low, high, -1.0, "a tensor")
        if low < -RANGE_SLACK and tensor.shape[1] == 3:
            return values
        if low < -RANGE_SLACK:
            values = values / 2 + 0.5
    else:
        raise PictureError(
            f"a tensor of {tensor.dtype} is no picture or mask; expected bool, uint8 or floats"
        )
    return 2 * _three_channels(values, background) - 1


def _check_range(low: float, high: float, least: float, what: str) -> None:
    """Floats outside their range are a mistake (0 to 255, say), not a very bright picture."""
    if not (low >= least - RANGE_SLACK and high <= 1 + RANGE_SLACK):
        raise PictureError(
            f"{what} of floats has values from {low:g} to {high:g}; expected {least:g} to 1"
            + (" (0 to 255 is for uint8)" if high > 2 else "")
        )


def _three_channels(values: torch.Tensor, background: int) -> torch.Tensor:
    """`[B, 1 to 4, H, W]` in [0, 1] to `[B, 3, H, W]`, transparency over a grey of 0 to 255."""
    channels = values.shape[1]
    if channels in (2, 4):
        colour, alpha = values[:, :-1], values[:, -1:]
        values = colour * alpha + background / 255 * (1 - alpha)
    return values.expand(-1, 3, -1, -1) if values.shape[1] == 1 else values
