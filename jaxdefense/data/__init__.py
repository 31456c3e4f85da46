"""Data sets as uint8 arrays with their provenance, and augmentations.

`load` takes a name or a path; `names` lists the names. Some sets need no files: ``typeface``,
``digits`` and the stand-ins ``synthetic_signs``, ``synthetic_fingers`` and ``synthetic_ct``. The
TFDS builders are in `jaxdefense.data.tfds_builders`, which is not imported here.
"""

from jaxdefense.data import augment
from jaxdefense.data.catalog import names
from jaxdefense.data.dataset import Dataset, as_images
from jaxdefense.data.resolve import load

__all__ = ["Dataset", "as_images", "augment", "load", "names"]
