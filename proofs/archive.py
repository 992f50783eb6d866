"""Zip archives of evidence: what is read from them is limited, and equal members give equal bytes.

``FORMAT.md`` specifies them.
"""

from __future__ import annotations

import io
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping

from specs.errors import EvidenceError

FLOOR, RATIO = 1 << 22, 64
"""Unpacked members may take 4 MiB plus 64 times the file's size."""

DICTIONARY = 1 << 24
"""Bytes that LZMA may look back."""

SHORT = 1 << 12
"""Bytes of a member up to which deflating it may beat LZMA, whose frame takes some 15 more."""

_LZMA_HEAD = struct.Struct("<BBHBI")
"""Before a member's LZMA stream: a version, the size of the rest, lc, lp and pb, the dictionary."""

_ENTRY = struct.Struct("<HHHHHIIIHH")
"""What a member's own head and the directory both say of it."""

_DATE = 0x21  # 1 January 1980


def allowance(size: int) -> int:
    """Bytes that the members of a file may take, given its size."""
    return FLOOR + RATIO * size


def archived(content: Mapping[str, bytes]) -> bytes:
    """An archive that depends on its members alone, and that a reader's limits allow."""
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name in sorted(content):
                info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                info.compress_type = method
                archive.writestr(info, content[name], compresslevel=9)
        if sum(map(len, content.values())) <= allowance(buffer.tell()):
            break
    return buffer.getvalue()


def short_archive(content: Mapping[str, bytes]) -> bytes | None:
    """An archive in few bytes; nothing where a reader's limits, or a zip's, forbid it.

    ``zipfile`` writes no LZMA but with a large dictionary, which takes longer to set up than
    a short member takes to compress.
    """
    if sum(map(len, content.values())) >= 1 << 31:
        return None
    members, directory = b"", b""
    for name, data in content.items():
        method, packed = _shortest(data)
        # LZMA needs version 6.3, and a flag says that its streams have an end mark
        version, flags = (63, 2) if method == zipfile.ZIP_LZMA else (20, 0)
        sizes = zlib.crc32(data), len(packed), len(data), len(name), 0
        entry = _ENTRY.pack(version, flags, method, 0, _DATE, *sizes)
        place = struct.pack("<HHHII", 0, 0, 0, 0, len(members))
        directory += b"PK\1\2" + struct.pack("<H", version) + entry + place + name.encode("ascii")
        members += b"PK\3\4" + entry + name.encode("ascii") + packed
    count = len(content)
    ends = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(members), 0)
    made = members + directory + b"PK\5\6" + ends
    return made if sum(map(len, content.values())) <= allowance(len(made)) else None


def _shortest(data: bytes) -> tuple[int, bytes]:
    """A method, and what it makes of a member."""
    size = 1 << min(max(12, len(data).bit_length()), 24)
    # without context: bytes of one array say little about the next one's
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": size, "lc": 0, "lp": 0, "pb": 0}]
    packed = lzma.compress(data, lzma.FORMAT_RAW, filters=filters)
    made = [(zipfile.ZIP_LZMA, _LZMA_HEAD.pack(9, 20, 5, 0, size) + packed)]
    if len(data) <= SHORT:
        made.append((zipfile.ZIP_DEFLATED, zlib.compress(data, 9, -zlib.MAX_WBITS)))
    return min(made, key=lambda each: len(each[1]))


def member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """A member's content; the size that counts is the one read, not the one declared.

    Raises:
        EvidenceError: it unpacks to more, or is packed in another way than readers know.
        LZMAError, BadZipFile, zlib.error, struct.error, RuntimeError, EOFError: it is damaged.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        raise EvidenceError(f"'{info.filename}' is neither stored nor deflated, nor LZMA")
    with archive.open(info) as stream:
        lzma_ = info.compress_type == zipfile.ZIP_LZMA
        data = _unpacked_lzma(archive, info, limit) if lzma_ else stream.read(limit + 1)
    if len(data) > limit:
        raise EvidenceError(f"'{info.filename}' unpacks to more than {limit} bytes")
    return data


def _unpacked_lzma(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """A member's content up to one byte above a limit; ``zipfile`` unpacks without any.

    Raises:
        EvidenceError: it asks for a large dictionary, or its sums are wrong.
    """
    stream = archive.fp
    if stream is None:
        raise EvidenceError("the archive is closed")
    stream.seek(info.header_offset + 26)
    stream.seek(sum(struct.unpack("<HH", stream.read(4))), os.SEEK_CUR)
    packed = stream.read(info.compress_size)
    _, _, size, code, dictionary = _LZMA_HEAD.unpack_from(packed)
    if size != _LZMA_HEAD.size - 4 or dictionary > DICTIONARY:
        raise EvidenceError(f"'{info.filename}' needs a dictionary of {dictionary} bytes")
    pb, rest = divmod(code, 45)
    lp, lc = divmod(rest, 9)
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": dictionary, "lc": lc, "lp": lp, "pb": pb}]
    data = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(
        packed[_LZMA_HEAD.size :], max_length=limit + 1
    )
    if len(data) <= limit and zlib.crc32(data) != info.CRC:
        raise EvidenceError(f"'{info.filename}' is damaged: its sum is another one")
    return data
