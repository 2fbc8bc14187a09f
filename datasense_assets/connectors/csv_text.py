"""From bytes to UTF-8: which encoding a file is in, whether it is text at all, and a clean UTF-8 copy where needed.

A file that is UTF-8 already is used as it lies, after one pass that proves it. Any other is copied: decoded,
without the characters that Postgres cannot hold, with line ends that the reader knows.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasense_assets.connectors.answers import web_page_words
from datasense_assets.connectors.errors import BadData

SAMPLE_BYTES = 1 << 18
_CHUNK = 1 << 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What survey exports are in, when not in Unicode; a guess among all of Python's encodings is wild on short texts.
_CANDIDATES = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp874", "shift_jis", "gb18030"]
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


@dataclass(frozen=True)
class Utf8Text:
    """A UTF-8 file: `start` is the offset after a byte order mark, `quotes` the number of `"` in it, `encoding` what
    the file came in, `guessed` whether nothing but statistics said so, `dropped` the NUL characters left out,
    `replaced` the bytes that could not be read.
    """

    path: Path
    start: int
    quotes: int
    encoding: str
    guessed: bool = False
    dropped: int = 0
    replaced: int = 0

    def notes(self, where: str) -> list[str]:
        """What a load should say of how the file was read."""
        notes = []
        if self.guessed:
            notes.append(
                f"{where} does not say how its letters are encoded; {self.encoding} was guessed. "
                "Set `encoding` if letters look wrong."
            )
        if self.replaced:
            notes.append(f"{where}: {self.replaced} bytes that are not UTF-8 were replaced by \ufffd.")
        if self.dropped:
            notes.append(f"{where}: {self.dropped} NUL characters were left out.")
        return notes


def as_utf8(path: Path, encoding: str, where: str, new_path: Callable[[], Path], *, is_json: bool = False) -> Utf8Text:
    """The file as UTF-8, itself or a copy at `new_path()`.

    Args:
        path: a plain file, not packed.
        encoding: `auto`, or the name of the encoding.
        where: the file's name in messages.
        new_path: makes the path of a copy, called only when one is needed.
        is_json: JSON is what is wanted, and no mistake.

    Raises:
        BadData: empty, a web page, JSON, no text, or not in the named encoding.

    """
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
    if not sample.strip(b"\xef\xbb\xbf\xff\xfe \t\r\n\0"):
        raise BadData(f"{where} is empty.", advice="Upload it again; the table keeps its last rows meanwhile.")
    marked = _marked_encoding(sample)
    if encoding != "auto":
        named = codecs.lookup(encoding).name
        if named == "utf-8" and marked in (None, "utf-8-sig"):
            text = _proved(path, marked)
            if text is not None:
                _refuse_other_formats(sample.decode("utf-8", "replace"), where, is_json=is_json)
                return text
        return _copied(
            path, "utf-8-sig" if named == "utf-8" else named, where, new_path(), is_json=is_json, guessed=False
        )
    if marked in (None, "utf-8-sig"):
        _refuse_other_formats(sample.decode("utf-8", "replace"), where, is_json=is_json)
        text = _proved(path, marked)
        if text is not None:
            return text
    chosen = marked or _guessed_encoding(path, sample, where)
    guessed = marked is None and chosen != "utf-8-sig"
    try:
        return _copied(path, chosen, where, new_path(), is_json=is_json, guessed=guessed)
    except _Undecodable:
        if marked is not None and marked != "utf-8-sig":
            raise
    if chosen == "utf-8-sig":  # a few stray bytes: rather these lost than every other letter mistaken
        return _copied(path, chosen, where, new_path(), is_json=is_json, guessed=False, errors="replace")
    # cp1252 leaves five bytes undefined; latin-1 takes any, and is the same but for the control characters
    return _copied(path, "latin-1", where, new_path(), is_json=is_json, guessed=True)


class _Undecodable(BadData):
    pass


def _marked_encoding(sample: bytes) -> str | None:
    for mark, name in _BOMS:
        if sample.startswith(mark):
            return name
    even, odd = sample[0:4096:2].count(0), sample[1:4096:2].count(0)
    half = len(sample[:4096]) / 2
    if odd > 0.3 * half and odd > 3 * even:
        return "utf-16-le"
    if even > 0.3 * half and even > 3 * odd:
        return "utf-16-be"
    return None


def _proved(path: Path, marked: str | None) -> Utf8Text | None:
    """The file itself if it is UTF-8 throughout, holds no NUL and has line feeds; None where a copy is needed."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    quotes = 0
    line_feeds = returns = between = False
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            quotes += chunk.count(b'"')
            line_feeds = line_feeds or b"\n" in chunk
            returns = returns or b"\r" in chunk
            if b"\0" in chunk:
                return None
            if chunk.isascii() and not between:
                continue
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                return None
            between = bool(decoder.getstate()[0])  # a character is cut by the chunk's end
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return None
    if returns and not line_feeds:
        return None
    return Utf8Text(path, 3 if marked else 0, quotes, "utf-8")


def _guessed_encoding(path: Path, sample: bytes, where: str) -> str:
    with path.open("rb") as file:  # lines that hold something else than ASCII, wherever in the file they are
        lines: list[bytes] = []
        size = 0
        for line in iter(lambda: file.readline(_CHUNK), b""):
            if not line.isascii():
                lines.append(line)
                size += len(line)
            if size > 64 * 1024:
                break
    special = b"".join(lines)
    if not special:  # ASCII with NULs
        return "utf-8-sig"
    if len(_BINARY.findall(sample)) > len(sample) * 0.05:
        raise BadData(f"{where} is not text.", advice="Give a CSV file.")
    if _is_mostly_utf8(special):
        return "utf-8-sig"
    from charset_normalizer import from_bytes

    matches = from_bytes(special, cp_isolation=_CANDIDATES, enable_fallback=False)
    best = matches.best()
    if best is None:
        return "cp1252"
    for match in matches:  # short Western texts read as well in Central European: the commoner one is meant
        if "cp1252" in match.could_be_from_charset and match.chaos <= best.chaos + 0.02:
            return "cp1252"
    return best.encoding


def _is_mostly_utf8(data: bytes) -> bool:
    """Whether at most one in twenty of the characters beyond ASCII is broken."""
    text = data.decode("utf-8", "replace")
    beyond = sum(not c.isascii() for c in text)
    return text.count("\ufffd") <= 0.05 * beyond


def _copied(
    path: Path, encoding: str, where: str, target: Path, *, is_json: bool, guessed: bool, errors: str = "strict"
) -> Utf8Text:
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    quotes = dropped = replaced = done = 0
    line_feed_seen = _has_line_feeds(path, encoding)
    with path.open("rb") as source, target.open("wb") as file:
        while True:
            chunk = source.read(_CHUNK)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                named = encoding.removesuffix("-sig")
                raise _Undecodable(
                    f"{where} is not in the encoding {named}: byte {done + error.start} cannot be read.",
                    advice="Set `encoding` to the right one, or to auto.",
                ) from None
            if done == 0:
                text = text.removeprefix("\ufeff")
                _refuse_other_formats(text[:SAMPLE_BYTES], where, is_json=is_json)
            if not chunk and not text:
                break
            done += len(chunk)
            dropped += text.count("\0")
            replaced += text.count("\ufffd") if errors == "replace" else 0
            text = text.replace("\0", "")
            if not line_feed_seen:
                text = text.replace("\r", "\n")
            quotes += text.count('"')
            file.write(text.encode("utf-8", "replace"))
            if not chunk:
                break
    return Utf8Text(target, 0, quotes, encoding, guessed=guessed, dropped=dropped, replaced=replaced)


def _has_line_feeds(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            if "\n" in decoder.decode(chunk):
                return True
    return False


def _refuse_other_formats(text: str, where: str, *, is_json: bool) -> None:
    words = web_page_words(text)
    if words is not None:
        raise BadData(
            f"{where} is a web page, not CSV: {words}",
            advice="Give the address of the file itself (a direct download link), and check that it needs no sign-in.",
        )
    start = text.lstrip("\ufeff \t\r\n")
    if not is_json and start.startswith(("{", "[")) and _is_json(start):
        raise BadData(f"{where} is JSON, not CSV: {' '.join(start.split())[:200]}", advice="Give a CSV file.")
    if start.startswith(("<?xml", "%PDF-", "PK\x03\x04")):
        kind = "XML" if start.startswith("<") else "a PDF" if start.startswith("%") else "a packed file or a workbook"
        raise BadData(f"{where} is {kind}, not CSV.", advice="Give a CSV file.")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        # a long document is cut by the sample: valid so far is enough
        return error.pos >= len(text) - 1 and len(text) > 1000
    return True
