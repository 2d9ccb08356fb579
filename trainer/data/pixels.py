"""Pixels: one image file brought to 8-bit RGB, by the same rule wherever it is decoded.

As people see it: turned as its EXIF data say, a palette as its colours, grey as three equal
channels, what is transparent on white, of 16 bits the upper eight, the first picture of an
animation. With a side, the shorter side is resized to it (bicubic, of the pixels covered) and the
centre cropped; an image that has this size already is left alone, bit for bit.

Also the program that decodes for another process (trainer.data.decoding): it imports nothing of
ours, so that it starts at once.
"""

from __future__ import annotations

import hashlib
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
        content = source if isinstance(source, bytes) else _read(source)
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
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


def _read(path: str) -> bytes:
    try:
        # To open a FIFO would wait for a writer that never comes.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            facts = os.fstat(descriptor)
            if stat.S_ISREG(facts.st_mode):
                with open(descriptor, "rb", buffering=0, closefd=False) as file:
                    return file.readall()
            reason = "it is not a regular file"
        finally:
            os.close(descriptor)
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


def digest(label: int, height: int, width: int, found: bytes | memoryview) -> bytes:
    """SHA-256 of one image as content_sha256 has it: its label, height, width and channels as
    64-bit little-endian integers, then its pixels."""
    whole = hashlib.sha256(struct.pack("<4q", label, height, width, 3))
    whole.update(found)
    return whole.digest()


def request(labels: Sequence[int], images: Sequence[bytes]) -> list[bytes]:
    """To decode these: each `b` and a file's content, or `p` and its path."""
    return [struct.pack(f"<{len(labels)}q", *labels), *images]


def answer(asked: Sequence[bytes], side: int | None) -> list[bytes]:
    """Of a request: nothing; each image's width and height, each one's digest, and their pixels. Or
    what is wrong with the first that cannot be used, as `check` takes it apart."""
    # What is odd about a file's metadata concerns nobody here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _answer(struct.unpack(f"<{len(asked) - 1}q", asked[0]), asked[1:], side)


def _answer(labels: Sequence[int], images: Sequence[bytes], side: int | None) -> list[bytes]:
    sizes, digests, every = list[int](), list[bytes](), list[bytes]()
    for number, (label, image) in enumerate(zip(labels, images, strict=True)):
        content = image[1:]
        try:
            width, height, found = pixels(
                content if image[:1] == b"b" else os.fsdecode(content), side
            )
        except BadImageError as error:
            words = (str(number), str(int(error.is_damaged)), error.what, error.remedy)
            return ["\0".join(words).encode(errors="replace")]
        sizes += width, height
        digests.append(digest(label, height, width, found))
        every.append(found)
    return [b"", struct.pack(f"<{len(sizes)}I", *sizes), b"".join(digests), b"".join(every)]


def check(reply: Sequence[bytes]) -> tuple[int, BadImageError] | None:
    """The first image that could not be used, by its number in the request, and why."""
    if not reply[0]:
        return None
    number, is_damaged, what, remedy = reply[0].decode().split("\0", 3)
    return int(number), BadImageError(what, remedy, is_damaged=is_damaged == "1")


def _main() -> None:
    side = int(sys.argv[1]) or None
    while True:
        try:
            asked = receive(sys.stdin.buffer)
        except EOFError:
            return
        send(sys.stdout.buffer, answer(asked, side))


if __name__ == "__main__":
    _main()
