"""A user's own captioned pictures, in any of the usual layouts, as a TFDS data set.

`listing.py` finds out the layout; `image_folder.py`, `webdataset.py` and `parquet.py` read one
each, as shards; `convert.py` brings shards to one size, in parallel; `builder.py` is the TFDS
builder over what it wrote.
"""

from flaxgan.data.own_pictures.builder import open_builder
from flaxgan.data.own_pictures.listing import list_pictures

__all__ = ["list_pictures", "open_builder"]
