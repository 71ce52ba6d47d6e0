"""TrueType files of a few letters, each of them a bar of its own height."""

import struct

EM = 1000


def tiny_font(letters, blank=""):
    """Bytes of a font in which letter number i is a bar as high as (i + 1) / (n + 1) of an em.

    What it lacks is a square of the whole em; nothing is drawn for letters that are blank.
    """
    heights = [EM, *(EM * (i + 1) // (len(letters) + 1) for i in range(len(letters)))]
    heights += [0] * len(blank)
    letters += blank
    glyphs = [_bar(EM if i == 0 else EM // 2, height) for i, height in enumerate(heights)]
    loca = [sum(map(len, glyphs[:i])) for i in range(len(glyphs) + 1)]
    count = len(glyphs)
    tables = {
        b"cmap": _cmap(letters),
        b"glyf": b"".join(glyphs),
        b"head": struct.pack(
            ">IIIIHHqqhhhhHHhhh",
            *(0x10000, 0x10000, 0, 0x5F0F3CF5, 0, EM, 0, 0, 0, 0, EM, EM, 0, 8, 2, 1, 0),
        ),
        b"hhea": struct.pack(
            ">IhhhHhhhhhh10xH", 0x10000, 900, -100, 0, EM, 0, 0, EM, 1, 0, 0, count
        ),
        b"hmtx": struct.pack(">Hh", EM, 0) * count,
        b"loca": struct.pack(f">{count + 1}I", *loca),
        b"maxp": struct.pack(">IHHHHHHHHHHHHHH", 0x10000, count, 4, 1, 0, 0, 1, *[0] * 8),
    }
    start = 12 + 16 * len(tables)
    header = struct.pack(">IHHHH", 0x10000, len(tables), 64, 2, 16 * len(tables) - 64)
    body = b""
    for tag, data in tables.items():
        header += tag + struct.pack(">III", 0, start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    return header + body


def _bar(width, height):
    outline = struct.pack(">hhhhh", 1, 0, 0, width, height) + struct.pack(">HH", 3, 0)
    outline += (
        b"\1\1\1\1" + struct.pack(">4h", 0, 0, width, 0) + struct.pack(">4h", 0, height, 0, -height)
    )
    return outline + b"\0" * (-len(outline) % 4)


def _cmap(letters):
    codes = sorted((ord(c), i + 1) for i, c in enumerate(letters))
    groups = b"".join(struct.pack(">III", code, code, glyph) for code, glyph in codes)
    subtable = struct.pack(">HHIII", 12, 0, 16 + len(groups), 0, len(codes)) + groups
    return struct.pack(">HHHHI", 0, 1, 3, 10, 12) + subtable
