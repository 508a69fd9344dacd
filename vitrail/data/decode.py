"""One image from its bytes or its file, under the names that scripts have used from the start.

The code is `data/images/decode.py`; nothing of the package imports this.
"""

from __future__ import annotations

from vitrail.data.images.decode import decode, decode_size
from vitrail.data.images.decode import read_image as read_picture
from vitrail.data.images.image_file import DecodeFault, read_bytes

__all__ = ["DecodeFault", "decode", "decode_size", "read_bytes", "read_picture"]
