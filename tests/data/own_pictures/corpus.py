"""Picture files and caption files of every kind that a folder can hold, good, odd and broken."""

import dataclasses
import io
import itertools
import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, features

IMPORTED, IGNORED = "imported", "ignored"
SIDE = 32
# the centres of the quadrants of the picture: upper left, upper right, lower left, lower right
COLOURS = np.array([[230, 30, 40], [30, 200, 60], [40, 60, 220], [250, 220, 40]], np.uint8)
GREYS = np.array([20, 90, 160, 240], np.uint8)
PIXELS = COLOURS.reshape(2, 2, 3).repeat(SIDE // 2, 0).repeat(SIDE // 2, 1)
GREY_PIXELS = GREYS.reshape(2, 2).repeat(SIDE // 2, 0).repeat(SIDE // 2, 1)
NOISE = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
WHITE = np.full((4, 3), 255)


@dataclasses.dataclass(frozen=True)
class Case:
    """One file, or one thing that is called like a picture file.

    Attributes:
      name: what is odd about it.
      file: its name, str or bytes.
      put: its bytes, or a function that makes it at a path.
      outcome: IMPORTED, IGNORED or the reason why it is rejected.
      caption: bytes of the text file beside it; None: there is none.
      captions: what is read from it.
      colours: `[4, 3]` of the quadrants' centres, None: not known.
      tolerance: of the colours.
    """

    name: str
    file: str | bytes
    put: bytes | Callable[[str | bytes], None]
    outcome: str
    caption: bytes | None
    captions: tuple[str, ...]
    colours: np.ndarray | None
    tolerance: float

    @property
    def report_name(self) -> str:
        """Its name in reports."""
        text = os.fsencode(self.file).decode("utf-8", "backslashreplace")
        return text.replace("\n", "\\x0a").replace("\x1b", "\\x1b")


def encode(image, file_format="PNG", **options):
    """Bytes of an image file, of an array or a PIL image."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def chunk(kind, data=b"", *, good=True):
    """A chunk of a PNG."""
    crc = zlib.crc32(kind + data) ^ (not good)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png(width, height, depth, colour, rows, *, before=b"", interlace=0, good=True, end=True):
    """A PNG by hand: rows with their filter bytes."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + before
        + chunk(b"IDAT", zlib.compress(rows), good=good)
        + (chunk(b"IEND") if end else b"")
    )


def rows_of(array):
    """Bytes of pixels as PNG wants them: a filter byte, 0, before each row."""
    return b"".join(b"\0" + row.tobytes() for row in array)


def adam7(array):
    """The seven passes of an interlaced PNG."""
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2)]
    passes.append((1, 2, 0, 1))
    return b"".join(rows_of(array[y::dy, x::dx]) for y, dy, x, dx in passes)


def icc_profile(description, red, green, blue, gamma):
    """An RGB matrix profile, version 2.1 (ICC.1:2001), colorants as XYZ under D50."""

    def fixed(*values):
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    text = description.encode() + b"\0"
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249),
        b"rXYZ": b"XYZ \0\0\0\0" + fixed(*red),
        b"gXYZ": b"XYZ \0\0\0\0" + fixed(*green),
        b"bXYZ": b"XYZ \0\0\0\0" + fixed(*blue),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += fixed(0.9642, 1.0, 0.8249)
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + table + body


SRGB_D50 = np.array(  # columns: XYZ of red, green, blue
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
P3_D50 = np.array(
    [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)
P3 = icc_profile("Wide", *P3_D50.T, gamma=2.2)


def p3_to_srgb(colours):
    """uint8 colours of the profile P3 as sRGB, float."""
    linear = (colours / 255.0) ** 2.2 @ P3_D50.T @ np.linalg.inv(SRGB_D50).T
    linear = linear.clip(0, 1)
    return 255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


def with_orientation(orientation):
    """What a camera stores of PIXELS, and the tag that turns it upright (EXIF 2.3, 4.6.4 A)."""
    stored = {
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.swapaxes(0, 1),
        6: np.rot90(PIXELS, 1),
        7: PIXELS[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(PIXELS, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return np.ascontiguousarray(stored), exif


def tiff(width, height, tags, data, order="<"):
    """A TIFF of one strip; tags: number -> (type, values)."""
    entries, extra = b"", b""
    start = 8 + 2 + 12 * (len(tags) + 1) + 4
    sizes = {3: "H", 4: "I"}
    tags = {**tags, 273: (4, (0,))}
    for number, (kind, values) in sorted(tags.items()):
        if number == 273:
            continue
        packed = struct.pack(f"{order}{len(values)}{sizes[kind]}", *values)
        if len(packed) > 4:
            tags[number] = (kind, values, struct.pack(f"{order}I", start + len(extra)))
            extra += packed
        else:
            tags[number] = (kind, values, packed.ljust(4, b"\0"))
    tags[273] = (4, (0,), struct.pack(f"{order}I", start + len(extra)))
    for number, (kind, values, packed) in sorted(tags.items()):
        entries += struct.pack(f"{order}HHI", number, kind, len(values)) + packed
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}H", len(tags))
    return head + entries + bytes(4) + extra + data


def grey16_tiff(order):
    values = (GREY_PIXELS.astype(np.uint16) * 257).astype(f"{order}u2").tobytes()
    tags = {256: (3, (SIDE,)), 257: (3, (SIDE,)), 258: (3, (16,)), 259: (3, (1,)), 262: (3, (1,))}
    tags |= {277: (3, (1,)), 278: (3, (SIDE,)), 279: (4, (len(values),))}
    return tiff(SIDE, SIDE, tags, values, order)


def jpeg_with_exif(payload):
    """A JPEG with an APP1 segment of these bytes after "Exif"."""
    data = encode(PIXELS, "JPEG", quality=95, subsampling=0)
    body = b"Exif\0\0" + payload
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def cmyk_jpeg(*, adobe):
    """PIXELS in CMYK without black; with Adobe's marker the values are stored inverted."""
    ink = np.dstack([255 - PIXELS, np.zeros((SIDE, SIDE), np.uint8)])
    data = encode(Image.fromarray(ink, "CMYK"), "JPEG", quality=95, subsampling=0)
    start = data.index(b"\xff\xee")
    if adobe:
        return data
    size = 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return data[:start] + data[start + size :]


def flipped(data, place, bit=3):
    """With one bit turned."""
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


def palette(**options):
    indices = np.arange(4, dtype=np.uint8).reshape(2, 2).repeat(SIDE // 2, 0).repeat(SIDE // 2, 1)
    image = Image.fromarray(indices)
    image.putpalette(COLOURS.ravel().tolist())
    return encode(image, **options)


def animation(file_format, **options):
    frames = [Image.fromarray(PIXELS), Image.new("RGB", (SIDE, SIDE), "white")]
    return encode(frames[0], file_format, save_all=True, append_images=frames[1:], **options)


def link(target):
    def put(path):
        os.symlink(target, path)

    return put


def fifo(path):
    """A pipe. Who reads from it finds it empty, where another one would wait forever."""
    os.mkfifo(path)
    threading.Thread(target=lambda: os.close(os.open(path, os.O_WRONLY)), daemon=True).start()


def folder_of_one_picture(path):
    """A folder that is called like a picture, with a picture in it."""
    os.mkdir(path)
    inner = Path(os.fsdecode(path))
    (inner / "inner.png").write_bytes(encode(PIXELS))
    (inner / "inner.txt").write_bytes(b"a picture inside")


def looped_folder(path):
    os.mkdir(path)
    os.symlink(b"..", os.path.join(path, b"up"))
    os.symlink(b".", os.path.join(path, b"self"))


PNG, NOISY_PNG = encode(PIXELS), encode(NOISE)
JPEG = encode(PIXELS, "JPEG", quality=95, subsampling=0)
NOISY_JPEG = encode(np.tile(NOISE, (4, 4, 1)), "JPEG", quality=95)
LOSSLESS = encode(PIXELS, "WEBP", lossless=True)
NOISY_WEBP = encode(np.tile(NOISE, (2, 2, 1)), "WEBP", quality=95)
GIF = encode(Image.fromarray(NOISE).quantize(64), "GIF")
DAMAGED, NO_PICTURE = "damaged picture", "not a picture"
UNSUPPORTED = "format is not supported"
TOO_LARGE, UNREADABLE_FILE = "too many pixels", "unreadable file"
NO_CAPTION, EMPTY_CAPTION, NOT_UTF8 = "no caption", "empty caption", "caption is not UTF-8"


def _cases():
    numbers = itertools.count()

    def case(
        name,
        put,
        outcome=IMPORTED,
        *,
        suffix=".png",
        file=None,
        caption: bytes | None = b"a caption",
        captions=None,
        colours=None,
        tolerance=0,
    ):
        file = file if file is not None else f"{next(numbers):03}{suffix}"
        if captions is None:
            captions = (caption.decode(),) if outcome == IMPORTED else ()
        return Case(name, file, put, outcome, caption, captions, colours, tolerance)

    def good(name, put, suffix=".png", *, colours=COLOURS, tolerance=0, **options):
        return case(name, put, suffix=suffix, colours=colours, tolerance=tolerance, **options)

    def captioned(name, caption, *captions, outcome=IMPORTED):
        return case(f"caption: {name}", PNG, outcome, caption=caption, captions=captions)

    # damage
    yield case("no bytes", b"", "empty file")
    yield case("PNG cut in its signature", PNG[:5], NO_PICTURE)
    yield case("PNG cut in its header", PNG[:20], DAMAGED)
    yield case("PNG cut before its pixels", PNG[:33], NO_PICTURE)
    yield case("PNG cut in its pixels", NOISY_PNG[: len(NOISY_PNG) // 2], DAMAGED)
    yield good("PNG without its end", PNG[:-12])
    yield case("PNG with a bit flipped in its pixels", flipped(NOISY_PNG, 1000), DAMAGED)
    yield case("PNG with a bit flipped in its header", flipped(PNG, 18), NO_PICTURE)
    rows = rows_of(PIXELS)
    yield good("PNG with a wrong checksum", png(SIDE, SIDE, 8, 2, rows, good=False))
    few = COLOURS * [[1], [1], [0], [0]]  # the rest is black, says Pillow, and no error
    half = rows[: len(rows) // 2]
    yield good("PNG with too few rows", png(SIDE, SIDE, 8, 2, half), colours=few)
    yield case("JPEG cut in its first marker", JPEG[:3], NO_PICTURE, suffix=".jpg")
    yield case("JPEG cut in its header", JPEG[:100], DAMAGED, suffix=".jpg")
    scan = NOISY_JPEG.index(b"\xff\xda")
    yield case("JPEG cut before its scan", NOISY_JPEG[:scan], DAMAGED, suffix=".jpg")
    half = NOISY_JPEG[: len(NOISY_JPEG) // 2]
    yield case("JPEG cut in its scan", half, DAMAGED, suffix=".jpg")
    yield case("JPEG with a bit flipped in its scan", flipped(NOISY_JPEG, -900), suffix=".jpg")
    yield case("WebP cut in its header", NOISY_WEBP[:14], NO_PICTURE, suffix=".webp")
    yield case(
        "WebP cut in its pixels", NOISY_WEBP[: len(NOISY_WEBP) // 2], DAMAGED, suffix=".webp"
    )
    yield case("GIF cut in its header", GIF[:8], NO_PICTURE, suffix=".gif")
    yield case("GIF cut in its pixels", GIF[: len(GIF) // 2], DAMAGED, suffix=".gif")
    yield case("text called PNG", b"just words\n", NO_PICTURE)
    page = b"<!DOCTYPE html><html><title>404 Not Found</title></html>"
    yield case("error page called JPEG", page, NO_PICTURE, suffix=".jpg")
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n"
    yield case("PostScript called PNG", script, NO_PICTURE)  # or Pillow would start Ghostscript
    yield case("GIF of 0 x 0 pixels", b"GIF89a" + bytes(7) + b";", NO_PICTURE, suffix=".gif")

    # size
    claim = png(50_000, 50_000, 8, 2, b"")
    yield case("PNG that claims 50 000 x 50 000 pixels", claim, TOO_LARGE)
    bomb = encode(Image.new("1", (9000, 8000)))
    yield case("PNG of 72 megapixels in a few bytes", bomb, TOO_LARGE)
    yield case("1 x 1", encode(PIXELS[:1, :1]), colours=COLOURS[[0] * 4])
    tall = np.repeat(PIXELS[:, :1], 32, 0)[:1000]
    yield case("1 x 1000", encode(tall), colours=COLOURS[[0, 0, 0, 0]])
    yield case("10 000 x 2", encode(np.full((2, 10_000, 3), 7, np.uint8)), colours=WHITE * 0 + 7)
    text = chunk(b"tEXt", b"Comment\0" + b"x" * 2_000_000)
    yield good("PNG with 2 MB of text", png(SIDE, SIDE, 8, 2, rows, before=text))
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(4_000_000)))
    yield case(
        "PNG with 4 MB of text in a few bytes", png(SIDE, SIDE, 8, 2, rows, before=text), DAMAGED
    )

    # kinds of pixels
    grey = GREYS[:, None].repeat(3, 1)
    yield good("RGB", PNG)
    yield good("grey", encode(GREY_PIXELS), colours=grey)
    ones = Image.fromarray(np.arange(4).reshape(2, 2).repeat(16, 0).repeat(16, 1) % 2 > 0)
    yield good("one bit", encode(ones), colours=np.array([0, 255, 0, 255])[:, None].repeat(3, 1))
    wide = GREY_PIXELS.astype(np.uint16) * 257
    yield good("16-bit grey PNG", encode(wide), colours=grey)
    rgb16 = rows_of((PIXELS.astype(np.uint16) * 257).astype(">u2"))
    yield good("16-bit RGB PNG", png(SIDE, SIDE, 16, 2, rgb16))
    yield good("interlaced PNG", png(SIDE, SIDE, 8, 2, adam7(PIXELS), interlace=1))
    yield good("16-bit TIFF, little end first", grey16_tiff("<"), ".tif", colours=grey)
    yield good("16-bit TIFF, big end first", grey16_tiff(">"), ".tif", colours=grey)
    floats = encode(Image.fromarray(GREY_PIXELS.astype(np.float32)), "TIFF")
    yield case("32-bit float TIFF", floats, "unsupported pixels", suffix=".tiff")
    alpha = np.array([0, 255, 128, 255], np.uint8).reshape(2, 2).repeat(16, 0).repeat(16, 1)
    share = np.array([0, 255, 128, 255])[:, None] / 255
    laid = 255 + share * (COLOURS - 255.0)
    laid_grey = 255 + share * (grey - 255.0)
    yield good("RGBA", encode(np.dstack([PIXELS, alpha])), colours=laid, tolerance=1)
    blank = np.dstack([PIXELS, np.zeros_like(alpha)])
    yield good("RGBA, all of it transparent", encode(blank), colours=WHITE)
    both = Image.merge("LA", [Image.fromarray(GREY_PIXELS), Image.fromarray(alpha)])
    yield good("grey with alpha", encode(both), colours=laid_grey, tolerance=1)
    yield good("palette", palette())
    holes = COLOURS.copy()
    holes[2] = 255
    yield good("palette with a transparent colour", palette(transparency=2), colours=holes)
    alphas = bytes([0, 255, 128, 255])
    yield good("palette with alpha", palette(transparency=alphas), colours=laid, tolerance=1)
    clear = chunk(b"tRNS", struct.pack(">3H", *COLOURS[1].tolist()))
    gone = COLOURS.copy()
    gone[1] = 255
    yield good(
        "RGB with a transparent colour", png(SIDE, SIDE, 8, 2, rows, before=clear), colours=gone
    )
    yield good("CMYK JPEG of Adobe", cmyk_jpeg(adobe=True), ".jpg", tolerance=8)
    yield good("CMYK JPEG", cmyk_jpeg(adobe=False), ".jpg", tolerance=8)  # as of Adobe, too
    ink = np.dstack([255 - PIXELS, np.zeros((SIDE, SIDE), np.uint8)])
    yield good("CMYK TIFF", encode(Image.fromarray(ink, "CMYK"), "TIFF"), ".tif", tolerance=1)
    lab = encode(Image.fromarray(NOISE, "LAB"), "TIFF")
    yield case("LAB TIFF", lab, suffix=".tif")

    # orientation
    for orientation in range(1, 9):
        stored, exif = with_orientation(orientation)
        data = encode(stored, "JPEG", quality=95, subsampling=0, exif=exif)
        yield good(f"JPEG of orientation {orientation}", data, ".jpg", tolerance=8)
    for file_format, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        stored, exif = with_orientation(6)
        data = encode(stored, file_format, exif=exif, **options)
        yield good(f"{file_format} of orientation 6", data, f".{file_format.lower()}")
    stored, exif = with_orientation(8)
    lying = Image.fromarray(stored)
    yield good("TIFF of orientation 8", encode(lying, "TIFF", tiffinfo={274: 8}), ".tif")
    yield good("JPEG of orientation 9", jpeg_with_exif(exif_bytes(9)), ".jpg", tolerance=8)
    yield good("JPEG with EXIF of garbage", jpeg_with_exif(b"garbage!"), ".jpg", tolerance=8)
    yield good("JPEG with empty EXIF", jpeg_with_exif(b""), ".jpg", tolerance=8)
    short = exif_bytes(3)[:-9]
    yield good("JPEG with EXIF cut short", jpeg_with_exif(short), ".jpg", tolerance=8)
    far = b"II*\0\xff\xff\xff\x7f"
    yield good("JPEG with EXIF that points away", jpeg_with_exif(far), ".jpg", tolerance=8)
    lengthy = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x0112, 3, 0x7FFFFFFF, 6)
    yield good("JPEG with EXIF that claims 4 GB", jpeg_with_exif(lengthy), ".jpg", tolerance=8)
    worded = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI4s", 0x0112, 2, 4, b"six\0") + bytes(4)
    yield good("JPEG whose orientation is a word", jpeg_with_exif(worded), ".jpg", tolerance=8)
    yield good("PNG with broken EXIF", png(SIDE, SIDE, 8, 2, rows, before=chunk(b"eXIf", b"MM*")))
    odd = exif_bytes(6, more=struct.pack("<HHI4s", 0x8769, 4, 1, b"\xff\xff\xff\xff"))
    stored = np.rot90(PIXELS, 1)
    data = encode(np.ascontiguousarray(stored), "JPEG", quality=95, subsampling=0)
    body = b"Exif\0\0" + odd
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    yield good("JPEG of orientation 6 with broken rest", data, ".jpg", tolerance=8)

    # animations, pages and other formats
    yield good("animated GIF", animation("GIF"), ".gif", tolerance=1)
    yield good("animated WebP", animation("WEBP", lossless=True), ".webp")
    yield good("animated PNG", animation("PNG"))
    yield good("TIFF of two pages", animation("TIFF"), ".tif")
    yield good(
        "progressive JPEG",
        encode(PIXELS, "JPEG", quality=95, subsampling=0, progressive=True),
        ".jpg",
        tolerance=8,
    )
    yield good("JPEG called PNG", JPEG, tolerance=8)
    yield good("PNG called JPEG", PNG, ".jpeg")
    yield good("suffix in capitals", JPEG, ".JPG", tolerance=8)
    yield good("lossless WebP", LOSSLESS, ".webp")
    yield good("BMP", encode(PIXELS, "BMP"), ".bmp")
    yield good("TGA", encode(PIXELS, "TGA"), ".tga")
    yield good("PPM", encode(PIXELS, "PPM"), ".ppm")
    yield good(
        "PPM in text", b"P3 32 32 255 " + b" ".join(b"%d" % v for v in PIXELS.ravel()), ".ppm"
    )
    if features.check("jpg_2000"):
        yield good("JPEG 2000", encode(PIXELS, "JPEG2000"), ".jp2")
    if features.check("avif"):
        yield good(
            "AVIF", encode(PIXELS, "AVIF", quality=95, subsampling="4:4:4"), ".avif", tolerance=8
        )
    yield case("icon", encode(PIXELS, "ICO"), UNSUPPORTED, suffix=".ico")
    yield case("HEIC", b"\0\0\0\x18ftypheic", UNSUPPORTED, suffix=".heic")
    yield case("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>', UNSUPPORTED, suffix=".svg")
    yield case("no picture by its name", b"{}", IGNORED, suffix=".json", caption=None)

    # colour profiles
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield good("profile of sRGB", encode(PIXELS, icc_profile=srgb))
    yield good(
        "profile of wide colours",
        encode(PIXELS, icc_profile=P3),
        colours=p3_to_srgb(COLOURS),
        tolerance=2,
    )
    yield good("profile of garbage", encode(PIXELS, icc_profile=b"garbage" * 40))
    yield good("profile cut short", encode(PIXELS, icc_profile=P3[:200]))
    yield good(
        "profile of RGB in a grey picture", encode(GREY_PIXELS, icc_profile=P3), colours=grey
    )

    # names
    yield good("name with spaces", PNG, file="a name  with spaces .png")
    yield good("Chinese name", PNG, file="一只猫.png")
    yield good("name of an emoji", PNG, file="🐈‍⬛.png")
    yield good("name with dots and quotes", PNG, file="a.b.'c\".d.png")
    yield good("name of 255 bytes", PNG, file="n" * 251 + ".png")
    yield good("name that is not UTF-8", PNG, file=b"caf\xe9.png")
    yield good("name with a new line", PNG, file="two\nlines.png")
    yield good("name that clears the screen", PNG, file="\x1b[2J.png")
    yield case("name with a leading dot", PNG, IGNORED, file=".hidden.png")
    yield case("resource fork of a Mac", b"\0\5\x16\7", IGNORED, file="._000.png")

    # not quite files
    yield good("link to a picture", link("001-target"), file="link.png")
    yield case("link to nothing", link("nowhere.png"), UNREADABLE_FILE)
    yield case("link to itself", link("loop.png"), UNREADABLE_FILE, file="loop.png")
    yield case("pipe", fifo, UNREADABLE_FILE)
    yield case("device", link("/dev/null"), UNREADABLE_FILE)
    yield case("folder called PNG", folder_of_one_picture, IGNORED, file="folder.png", caption=None)
    yield case("folder in a loop", looped_folder, IGNORED, file="looped", caption=None)

    # captions
    yield captioned("none", None, outcome=NO_CAPTION)
    yield captioned("empty", b"", outcome=EMPTY_CAPTION)
    yield captioned("white", b" \n\t \r\n\xe3\x80\x80\n", outcome=EMPTY_CAPTION)
    yield captioned("Latin-1", "ein Käfer".encode("latin-1"), outcome=NOT_UTF8)
    yield captioned("with a NUL", b"a \0 cat", outcome=NOT_UTF8)
    yield captioned("UTF-8 of a lone surrogate", b"a \xed\xa0\xbd cat", outcome=NOT_UTF8)
    yield captioned("UTF-16 cut in a character", "a cat".encode("utf-16")[:-1], outcome=NOT_UTF8)
    yield captioned("UTF-8 with a mark", b"\xef\xbb\xbfa cat", "a cat")
    yield captioned("UTF-16 with a mark", "ein Käfer".encode("utf-16"), "ein Käfer")
    big = b"\xfe\xff" + "一只猫\nein Käfer".encode("utf-16-be")
    yield captioned("UTF-16, big end first", big, "一只猫", "ein Käfer")
    yield captioned("several lines", b"a cat\n\na dog \n  a cat\n", "a cat", "a dog")
    yield captioned(
        "lines of DOS and of old Macs", b"a cat\r\na dog\ra cow", "a cat", "a dog", "a cow"
    )
    yield captioned(
        "control characters", b"a\x07 red\x1b[0m\tcat\x0c of\x1c mine", "a red [0m cat of mine"
    )
    yield captioned("decomposed", "Ka\u0308fer".encode(), "Käfer")
    yield captioned("right to left", "قطة على شجرة".encode(), "قطة على شجرة")
    yield captioned("emoji", "a 👩‍🚀 in 🪐".encode(), "a 👩‍🚀 in 🪐")
    yield captioned("line separator of Unicode", "a cat\u2028of mine".encode(), "a cat of mine")
    yield captioned("1 MB", b"word " * 200_000, ("word " * 400).strip())


def exif_bytes(orientation, more=b""):
    """EXIF, little end first, with an orientation and perhaps another entry."""
    count = 1 + bool(more)
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + entry + more + bytes(4)


CASES = {case.name: case for case in _cases()}


def write(folder, cases):
    """Writes cases, each with its caption file."""
    root = os.fsencode(folder)
    Path(os.fsdecode(os.path.join(root, b"001-target"))).write_bytes(PNG)
    for case in cases:
        path = os.path.join(root, os.fsencode(case.file))
        if callable(case.put):
            case.put(path)
        else:
            Path(os.fsdecode(path)).write_bytes(case.put)
        if case.caption is not None:
            text = os.path.splitext(path)[0] + b".txt"
            Path(os.fsdecode(text)).write_bytes(case.caption)
