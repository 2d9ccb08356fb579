"""Pixels: one image file brought to 8-bit RGB, by the same rule wherever it is decoded.

As people see it: turned as its EXIF data say, a palette as its colours, grey as three equal
channels, what is transparent on white, of 16 bits the upper eight, the first picture of an
animation. With a side, the shorter side is resized to it (bicubic, of the pixels covered) and the
centre cropped; an image that has this size already is left alone, bit for bit.

Also the program that decodes for another process (trainer.data.decoding): it imports nothing of
ours, so that it starts at once.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
)
# Of a file's content, whatever its name says: Pillow would run Ghostscript for an EPS.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_HEAD = struct.Struct("<II")


class BadImageError(Exception):
    """What is wrong with an image; `remedy` is what to do, `is_damaged` whether a copy may help."""

    def __init__(self, what: str, remedy: str, *, is_damaged: bool) -> None:
        super().__init__(what)
        self.what, self.remedy, self.is_damaged = what, remedy, is_damaged


def pixels(source: str | bytes, side: int | None) -> tuple[int, int, bytes]:
    """Width, height and the bytes (height, width, 3) of the image in a file, or in its content.

    Raises BadImageError.
    """
    from PIL import Image

    try:
        with (
            io.BytesIO(source) if isinstance(source, bytes) else _opened(source) as file,
            warnings.catch_warnings(),
        ):
            # What is odd about a file's metadata concerns nobody here.
            warnings.simplefilter("ignore")
            with Image.open(file, formats=_FORMATS) as image:
                if side is not None and image.format == "JPEG":
                    # Decoded at a half, a quarter or an eighth where that is more than enough.
                    image.draft("RGB", (2 * side, 2 * side))
                whole = _squared(_rgb(_upright(image)), side)
                return whole.width, whole.height, whole.tobytes()
    except BadImageError:
        raise
    except MemoryError:
        raise
    # Pillow's decoders raise anything on damaged bytes: OSError, SyntaxError, ValueError, ...
    except Exception as error:
        raise BadImageError(
            f"the image is damaged: {error or type(error).__name__}",
            "copy or download it again",
            is_damaged=True,
        ) from None


def _opened(path: str) -> BinaryIO:
    try:
        # To open a FIFO would wait for a writer that never comes.
        file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")  # noqa: PTH123, SIM115
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
        reason = "it is not a regular file"
    except OSError as error:
        reason = error.strerror or str(error)
    raise BadImageError(f"cannot read it: {reason}", "correct that", is_damaged=True)


def _upright(image: Image.Image) -> Image.Image:
    # A TIFF is turned by Pillow itself. To ask an image without EXIF data would take as long again.
    if "exif" not in image.info:
        return image
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _SIXTEEN_BITS:
        # The upper byte of each pair.
        upper = image.tobytes()[0 if image.mode == "I;16B" else 1 :: 2]
        return Image.frombytes("L", image.size, upper).convert("RGB")
    if image.mode in ("I", "F"):
        raise BadImageError(
            f"its values are 32-bit {'integers' if image.mode == 'I' else 'floats'}, whose range "
            "no file says",
            "convert it to 8 or 16 bits",
            is_damaged=False,
        )
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        white = Image.new("RGBA", seen.size, "white")
        return Image.alpha_composite(white, seen).convert("RGB")
    return image.convert("RGB")


def _squared(image: Image.Image, side: int | None) -> Image.Image:
    if side is None or image.size == (side, side):
        return image
    from PIL import Image

    short = min(image.size)
    left, top = (image.width - short) / 2, (image.height - short) / 2
    box = (left, top, left + short, top + short)
    return image.resize((side, side), Image.Resampling.BICUBIC, box)


# --- the program -----------------------------------------------------------------------------


def send(file: BinaryIO, parts: Sequence[bytes]) -> None:
    file.write(struct.pack(f"<I{len(parts)}Q", len(parts), *map(len, parts)))
    file.writelines(parts)
    file.flush()


def receive(file: BinaryIO) -> list[bytes]:
    """What `send` sent. Raises EOFError where the other side has gone."""
    (count,) = struct.unpack("<I", _exactly(file, 4))
    lengths = struct.unpack(f"<{count}Q", _exactly(file, 8 * count))
    return [_exactly(file, length) for length in lengths]


def _exactly(file: BinaryIO, length: int) -> bytes:
    content = file.read(length)
    if len(content) < length:
        raise EOFError
    return content


def answer(request: bytes, side: int | None) -> bytes:
    """Of one image: `b` and a file's content, or `p` and its path; width, height and pixels, or two
    zeros and what is wrong, as `opened` takes it apart."""
    try:
        content = request[1:]
        width, height, found = pixels(
            content if request[:1] == b"b" else os.fsdecode(content), side
        )
    except BadImageError as error:
        text = f"{int(error.is_damaged)}{error.what}\0{error.remedy}"
        return _HEAD.pack(0, 0) + text.encode(errors="replace")
    return _HEAD.pack(width, height) + found


def opened(reply: bytes) -> tuple[int, int, memoryview]:
    """Width, height and pixels of an answer. Raises BadImageError."""
    width, height = _HEAD.unpack_from(reply)
    rest = memoryview(reply)[_HEAD.size :]
    if width:
        return width, height, rest
    text = bytes(rest).decode()
    what, _, remedy = text[1:].partition("\0")
    raise BadImageError(what, remedy, is_damaged=text[0] == "1")


def _main() -> None:
    side = int(sys.argv[1]) or None
    while True:
        try:
            requests = receive(sys.stdin.buffer)
        except EOFError:
            return
        send(sys.stdout.buffer, [answer(request, side) for request in requests])


if __name__ == "__main__":
    _main()
