"""Pictures of every kind to uint8 arrays: values against NumPy."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from flaxgan.data import pictures
from flaxgan.errors import UserError

RGB = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)


def encode(image, file_format="PNG", **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def decode(data, resolution=24, channels=3):
    result = pictures.decode(data, resolution, channels, what="picture 7")
    assert result.dtype == np.uint8
    assert result.shape == (resolution, resolution, channels)
    return result


def luma(rgb):
    """ITU-R BT.601."""
    return np.rint(rgb.astype(float) @ [0.299, 0.587, 0.114])


def block_means(image, n):
    h, w = image.shape[:2]
    return image.reshape(h // n, n, w // n, n, -1).astype(float).mean(axis=(1, 3))


def smooth(height, width):
    """A gradient that JPEG keeps nearly as it is."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * y / height, 255 * x / width, 0 * x + 90], axis=-1).astype(np.uint8)


def test_png_of_the_right_size_is_kept():
    np.testing.assert_array_equal(decode(encode(RGB)), RGB)


@pytest.mark.parametrize("file_format", ["BMP", "TIFF", "WEBP"])
def test_other_lossless_formats_are_kept(file_format):
    options = {"lossless": True} if file_format == "WEBP" else {}
    np.testing.assert_array_equal(decode(encode(RGB, file_format, **options)), RGB)


def test_colour_becomes_grey_by_luma_and_grey_becomes_three_equal_channels():
    grey = decode(encode(RGB), channels=1)[..., 0]
    assert np.abs(grey - luma(RGB)).max() <= 1
    plain = RGB[..., 0]
    np.testing.assert_array_equal(decode(encode(plain), channels=1)[..., 0], plain)
    np.testing.assert_array_equal(decode(encode(plain)), np.stack([plain] * 3, axis=-1))


def test_transparency_is_laid_on_white():
    alpha = np.arange(24 * 24).reshape(24, 24).astype(np.uint8)
    expected = 255 + (RGB - 255.0) * alpha[..., None] / 255
    found = decode(encode(np.dstack([RGB, alpha])))
    assert np.abs(found - expected).max() <= 1
    grey_alpha = Image.merge("LA", [Image.fromarray(RGB[..., 0]), Image.fromarray(alpha)])
    assert np.abs(decode(encode(grey_alpha)) - expected[..., :1]).max() <= 1


def test_palettes_with_and_without_a_transparent_colour():
    indices = (np.arange(24 * 24).reshape(24, 24) % 4).astype(np.uint8)
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 90, 0], [0, 0, 250]], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(colours.ravel().tolist())
    np.testing.assert_array_equal(decode(encode(image)), colours[indices])
    colours[2] = 255
    np.testing.assert_array_equal(decode(encode(image, transparency=2)), colours[indices])


def test_rgb_with_a_transparent_colour():
    colours = np.zeros((24, 24, 3), np.uint8)
    colours[:12] = [1, 2, 3]
    found = decode(encode(colours, transparency=(1, 2, 3)))
    np.testing.assert_array_equal(found[:12], 255)
    np.testing.assert_array_equal(found[12:], 0)


def test_16_bit_grey_is_scaled():
    values = np.linspace(0, 65535, 24 * 24).reshape(24, 24).astype(np.uint16)
    found = decode(encode(values), channels=1)[..., 0]
    assert np.abs(found - values / 257.0).max() <= 0.51


def test_one_bit_pictures_are_black_and_white():
    mask = np.eye(24, dtype=bool)
    np.testing.assert_array_equal(decode(encode(mask), channels=1)[..., 0], np.where(mask, 255, 0))


def test_cmyk_jpeg_gets_its_colours():
    red = np.zeros((24, 24, 4), np.uint8)
    red[..., 1:3] = 255  # magenta and yellow
    found = decode(encode(Image.fromarray(red, "CMYK"), "JPEG", quality=95))
    assert np.abs(found.astype(int) - [255, 0, 0]).max() <= 8


def test_first_frame_of_an_animation_is_taken():
    frames = [Image.new("L", (24, 24), value) for value in (40, 200)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(data), 40)


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (24, 60, np.s_[:, 18:42]),
        (60, 24, np.s_[18:42, :]),
        (25, 24, np.s_[:24, :]),
        (24, 27, np.s_[:, 1:25]),
    ],
)
def test_centre_square_is_cut(height, width, box):
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode(encode(image)), image[box])


@pytest.mark.parametrize("times", [2, 3, 8])
def test_shrinking_takes_the_mean_of_the_area(times):
    image = np.random.default_rng(2).integers(0, 256, (8 * times, 14 * times, 3), dtype=np.uint8)
    expected = block_means(image[:, 3 * times : 11 * times], times)
    assert np.abs(decode(encode(image), 8) - expected).max() <= 1.01  # rounded twice


def bicubic_matrix(old, new):
    """Rows of Keys' cubic kernel, a = -1/2, as wide as the shrinkage, cut at the border."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale
    x = np.abs(np.arange(old) + 0.5 - centres[:, None]) / max(scale, 1.0)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    kernel = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return kernel / kernel.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("resolution", [5, 9, 15, 32], ids=lambda n: f"12-to-{n}")
def test_enlarging_and_shrinking_by_a_fraction_are_bicubic(resolution):
    image = np.random.default_rng(4).integers(60, 200, (12, 12, 3), dtype=np.uint8)
    matrix = bicubic_matrix(12, resolution)
    expected = np.einsum("ai,bj,ijc->abc", matrix, matrix, image).clip(0, 255)
    assert np.abs(decode(encode(image), resolution) - expected).max() <= 1.5  # rounded twice


def test_jpeg_is_near_its_source_at_full_size_and_shrunk():
    image = smooth(128, 192)
    data = encode(image, "JPEG", quality=95, subsampling=0)
    square = image[:, 32:160]
    assert np.abs(decode(data, 128) - square.astype(float)).max() <= 6
    for resolution in (64, 16, 8):  # decoded at a half to an eighth of the size
        expected = block_means(square, 128 // resolution)
        assert np.abs(decode(data, resolution) - expected).max() <= 6
    grey = decode(data, 16, channels=1)[..., 0]
    assert np.abs(grey - luma(block_means(square, 8))).max() <= 6


def with_orientation(upright, orientation):
    """What a camera stores, with the tag that says how to turn it upright (EXIF 2.3, 4.6.4 A)."""
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return np.ascontiguousarray(stored), exif


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stored_lying_are_turned_upright(orientation):
    image = np.random.default_rng(5).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    stored, exif = with_orientation(image, orientation)
    np.testing.assert_array_equal(decode(encode(stored, exif=exif)), image[:, 8:32])
    image = smooth(128, 192)
    stored, exif = with_orientation(image, orientation)
    data = encode(stored, "JPEG", quality=95, subsampling=0, exif=exif)
    for resolution in (128, 16):
        expected = block_means(image[:, 32:160], 128 // resolution)
        assert np.abs(decode(data, resolution) - expected).max() <= 6


@pytest.mark.parametrize("shape", [(24, 24), (24, 24, 1), (24, 24, 3)])
def test_arrays_are_taken_as_they_are(shape):
    array = np.random.default_rng(6).integers(0, 256, shape, dtype=np.uint8)
    found = decode(array)
    np.testing.assert_array_equal(found, np.broadcast_to(array.reshape(24, 24, -1), found.shape))


PNG, JPEG = encode(RGB), encode(smooth(64, 64), "JPEG")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a picture",
        PNG[:20],
        PNG[: len(PNG) // 2],
        PNG[:60] + b"\0" * 40 + PNG[100:],
        JPEG[: len(JPEG) // 2],
        JPEG[:10],
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=lambda data: f"{type(data).__name__}-{len(data)}-{np.ndim(data)}",
)
@pytest.mark.parametrize("resolution", [4, 64])
def test_what_is_no_picture_is_an_error_that_names_it(data, resolution):
    with pytest.raises(UserError, match=r"^picture 7 is not a readable picture: ") as error:
        decode(data, resolution)
    assert "\n" not in str(error.value)


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 24 * 24 - 1)
    monkeypatch.setattr(Image.Image, "convert", None)  # decoding would call it
    with pytest.raises(UserError, match=r"picture 7 .*too many pixels \(24 x 24\)"):
        decode(PNG)


def test_a_file_that_claims_gigapixels_is_refused():
    head = encode(Image.new("L", (1, 1)))
    claimed = head[:16] + (100_000).to_bytes(4, "big") * 2 + head[24:29]
    data = claimed + zlib.crc32(claimed[12:29]).to_bytes(4, "big") + head[33:]
    with pytest.raises(UserError, match="picture 7 is not a readable picture"):
        decode(data)
