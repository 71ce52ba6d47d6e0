"""A user's own captioned pictures, in any of the usual layouts, as a TFDS data set.

`listing.py` finds out the layout. `folder.py` walks over a folder, `layouts/` has one file for each
way to put captions into it, and `image_folder.py` asks them; `webdataset.py`, `parquet.py` and
`arrow.py` read archives. All give shards (`shards.py`); `convert.py` brings these to one size, in
parallel; `builder.py` is the TFDS builder over what it wrote.
"""

from flaxgan.data.own_pictures.builder import open_builder
from flaxgan.data.own_pictures.listing import list_pictures

__all__ = ["list_pictures", "open_builder"]
