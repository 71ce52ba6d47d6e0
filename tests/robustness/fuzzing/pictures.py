"""Intact pictures of every format that is read, and of some that are not."""

import io

import numpy as np
from PIL import Image, PngImagePlugin, features

SIDE = 24


def small(seed):
    """A PNG."""
    return _encode(_noise(seed), "PNG")


def every_format():
    """(name, bytes) of small pictures."""
    rgb = Image.fromarray(_noise(0))
    alpha = rgb.convert("RGBA")
    alpha.putalpha(100)
    exif = Image.Exif()
    exif[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", "a cat " * 50, zip=True)
    text.add_itxt("seed", "0", zip=True)
    deep = Image.fromarray(_noise(1)[..., 0].astype(np.uint16) * 257)
    files = {
        "png": _encode(rgb, "PNG", exif=exif, pnginfo=text, icc_profile=_profile()),
        "png alpha": _encode(alpha, "PNG"),
        "png palette": _encode(rgb.quantize(16), "PNG", transparency=3),
        "png 16 bit": _encode(deep, "PNG"),
        "png 1 bit": _encode(rgb.convert("1"), "PNG"),
        "jpeg": _encode(rgb, "JPEG", exif=exif, icc_profile=_profile()),
        "jpeg progressive": _encode(rgb, "JPEG", progressive=True, quality=60),
        "jpeg cmyk": _encode(rgb.convert("CMYK"), "JPEG"),
        "gif": _encode(rgb, "GIF", save_all=True, append_images=[rgb.rotate(90), rgb.rotate(180)]),
        "bmp": _encode(rgb, "BMP"),
        "tiff": _encode(rgb, "TIFF"),
        "tiff lzw": _encode(rgb, "TIFF", compression="tiff_lzw"),
        "tiff deflate": _encode(alpha, "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": _encode(rgb, "TIFF", compression="jpeg"),
        "tiff float": _encode(rgb.convert("F"), "TIFF"),
        "ppm": _encode(rgb, "PPM"),
        "pgm plain": b"P2\n# a\n3 2\n255\n0 1 2\n3 4 5\n",
        "tga": _encode(rgb, "TGA"),
        "tga rle": _encode(alpha, "TGA", compression="tga_rle"),
        # not read; what opens them must say so and start no program
        "eps": _encode(rgb, "EPS"),
        "ico": _encode(rgb, "ICO"),
        "pcx": _encode(rgb, "PCX"),
        "pdf": _encode(rgb, "PDF"),
    }
    for name, options in (
        ("webp", {"WEBP": {}}),
        ("webp lossless", {"WEBP": {"lossless": True, "exif": exif}}),
        ("jpg_2000", {"JPEG2000": {}}),
        ("avif", {"AVIF": {}}),
    ):
        ((kind, how),) = options.items()
        if features.check(name.split()[0]):
            files[name] = _encode(rgb, kind, **how)
    return list(files.items())


def _noise(seed):
    """Some noise, and areas of one colour: codecs differ in what they do with them."""
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    pixels[: SIDE // 2] = (200, 30, 90)
    return pixels


def _profile():
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _encode(image, kind, **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()
