"""Rows of Arrow tables with picture bytes and text, as Hugging Face data sets have them."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from flaxgan.data.captions import readable
from flaxgan.data.own_pictures.columns import (
    NOT_UTF8,
    caption_columns,
    captions_in,
    clean_captions,
    column_names,
    no_caption_column,
    no_weight,
    weight_in,
)
from flaxgan.data.own_pictures.names import inside
from flaxgan.data.own_pictures.shards import (
    Problem,
    RawPicture,
    ReadOptions,
    raw_picture,
    read_file,
    reason_of,
)
from flaxgan.errors import UserError

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo")


@dataclasses.dataclass(frozen=True)
class RowReader:
    """Which columns are read, and how.

    Attributes:
      image: of the pictures.
      texts: that can hold captions.
      classes: names of a column of class numbers (ClassLabel of Hugging Face), if captions are
        made of them.
      options: see ReadOptions.
    """

    image: str
    texts: tuple[str, ...]
    classes: tuple[str, ...]
    options: ReadOptions

    @property
    def columns(self) -> list[str]:
        """All that are read."""
        weight = self.options.weight_column
        more = [] if weight in ("", "auto") else [weight]
        return list(dict.fromkeys([self.image, *self.texts, *more]))

    def read(
        self, batch: pa.RecordBatch, path: Path, name: str, number: int, split: str
    ) -> Iterator[RawPicture]:
        """The pictures of some rows.

        Args:
          batch: with all of `columns`.
          path, name: of the file.
          number: of the first row.
          split: see RawPicture.
        """
        images = batch.column(batch.schema.names.index(self.image))
        others = [c for c in self.columns if c != self.image]
        columns = {c: batch.column(batch.schema.names.index(c)) for c in others}
        for row in range(batch.num_rows):
            cells = {name: column[row] for name, column in columns.items()}
            yield self._picture(images[row], cells, path, f"{name}/{number + row}", split)

    def _picture(
        self, image: pa.Scalar, cells: dict[str, pa.Scalar], path: Path, name: str, split: str
    ) -> RawPicture:
        captions: list[str] | Problem = []
        weight: float | None = 1.0
        try:
            fields = {name: cell.as_py() for name, cell in cells.items()}
        except UnicodeDecodeError:
            captions = NOT_UTF8, ""
        else:
            column = self.options.weight_column
            weight = weight_in(fields, column)
            if weight is None:
                reason, detail = "no weight", no_weight(fields, column)
                return RawPicture(name, None, reason=reason, detail=detail, split=split)
            if self.options.need_captions:
                captions = self._captions(fields)
        try:
            data = _data(image, path.parent)
        except OSError as error:
            reason, detail = reason_of(error)
            return RawPicture(name, None, reason=reason, detail=detail, split=split)
        if data is None:
            return RawPicture(name, None, reason="no picture", split=split)
        need = self.options.need_captions
        return raw_picture(name, data, captions, need_captions=need, split=split, weight=weight)

    def _captions(self, fields: dict[str, Any]) -> list[str] | Problem:
        if not self.classes:
            texts = {name: fields[name] for name in self.texts}
            captions, detail = captions_in(texts, self.options.caption_column)
        else:
            number = fields[self.texts[0]]
            if not isinstance(number, int) or not 0 <= number < len(self.classes):
                return "no caption", f"class {number!r} has no name"
            name = readable(self.classes[number])
            templates = [template.replace("{}", name) for template in self.options.templates]
            captions, detail = clean_captions(templates), ""
        return (captions, detail) if isinstance(captions, str) else captions


def _data(image: pa.Scalar, folder: Path) -> bytes | None:
    """Bytes of a cell; of the file that it names, if that is in the folder of the archive."""
    if not isinstance(image, pa.StructScalar):
        return image.as_py()
    if not image.is_valid:
        return None
    data = image["bytes"].as_py()
    if data is None and "path" in image.type.names:
        try:
            name = image["path"].as_py()
        except UnicodeDecodeError:
            return None
        path = inside(folder, name) if isinstance(name, str) and name else None
        data = None if path is None else read_file(Path(path))
    return data


def row_reader(schema: pa.Schema, path: Path, options: ReadOptions) -> RowReader:
    """Chooses the columns of a table.

    Args:
      schema: of the table.
      path: of its file, for errors.
      options: with the user's choices.

    Raises:
      UserError: no column of pictures or of captions, or several of pictures.
    """
    image = image_column(schema, path, options.image_column)
    others = tuple(name for name in schema.names if name != image)
    wish = options.caption_column
    classes = _class_names(schema)
    texts = tuple(dict.fromkeys(c for group in caption_columns(others, wish) for c in group))
    if len(texts) == 1 and texts[0] in classes:
        return RowReader(image, texts, classes[texts[0]], options)
    if not options.need_captions:
        texts = ()
    elif not texts and wish == "auto" and len(classes) == 1:
        ((column, names),) = classes.items()
        return RowReader(image, (column,), names, options)
    elif not texts:
        raise no_caption_column(path, schema.names, wish)
    if options.weight_column not in ("", "auto", *others):
        raise UserError(
            f"{path} has no column {options.weight_column} (data.weight_column); it has: "
            f"{column_names(others)}"
        )
    return RowReader(image, texts, (), options)


def image_column(schema: pa.Schema, path: Path, wish: str) -> str:
    """The column of pictures: the named one; the only one; or the only one of a usual name.

    Raises:
      UserError: there is none, or it has to be named.
    """
    names = [field.name for field in schema if _holds_pictures(field.type)]
    if wish != "auto":
        if wish not in names:
            raise UserError(
                f"{path} has no column {wish} with picture bytes (data.image_column); it has: "
                f"{column_names(names)}"
            )
        return wish
    usual = [name for name in names if name.lower() in IMAGE_COLUMNS]
    chosen = names if len(names) == 1 else usual
    if len(chosen) == 1:
        return chosen[0]
    if not names:
        raise UserError(
            f"{path} has no column with picture bytes; it has: {column_names(schema.names)}"
        )
    raise UserError(
        f"{path} has {len(names)} columns with picture bytes: {column_names(names)}; name the one "
        f"to train on: --data.image-column {names[0]}"
    )


def _class_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Column -> names of its class numbers, where Hugging Face's `datasets` wrote them."""
    try:
        info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = info["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {
        column: tuple(str(name) for name in feature["names"])
        for column, feature in features.items()
        if isinstance(feature, dict)
        and feature.get("_type") == "ClassLabel"
        and isinstance(feature.get("names"), list)
    }


def _holds_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")  # null: all of them are files, named by "path"
        inner = kind.field(index).type if index >= 0 else kind
        return pa.types.is_null(inner) or is_binary(inner)
    return is_binary(kind)


def is_binary(kind: pa.DataType) -> bool:
    """Whether a column of this type holds bytes."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
