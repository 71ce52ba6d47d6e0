"""The layouts of folders of pictures, the strongest evidence first.

A file that names its pictures is stronger than one beside a picture, that than one of its name
elsewhere, and that than the name of a folder. Where the strongest has no caption for a picture,
the next one is asked; folder names are read only where nothing else is.
"""

from flaxgan.data.own_pictures.layouts.folder_names import FolderNames
from flaxgan.data.own_pictures.layouts.json_files import (
    Coco,
    Conversations,
    Karpathy,
    Mapping,
    Rows,
)
from flaxgan.data.own_pictures.layouts.layout import Entry, Layout, Reading
from flaxgan.data.own_pictures.layouts.side_files import SideFiles
from flaxgan.data.own_pictures.layouts.tables import Tables
from flaxgan.data.own_pictures.layouts.text_trees import TextTrees

LAYOUTS: tuple[Layout, ...] = (
    Tables(),
    Karpathy(),
    Coco(),
    Conversations(),
    Rows(),
    Mapping(),
    SideFiles(),
    TextTrees(),
    FolderNames(),
)

__all__ = ["LAYOUTS", "Entry", "Layout", "Reading"]
