"""The bytes of a report as UTF-8 that an XML parser takes. Never refuses: it replaces.

What tools get wrong is put right here: encodings that are declared and those that are not true,
blanks before the declaration, control characters, and references to characters XML cannot hold.
"""

import codecs
import re
from collections.abc import Iterable, Iterator

_HEAD_BYTES = 1024
_BLANKS = b" \t\r\n"
_BLANK_LINES_MAX = 10_000
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks; a longer one stands before the one it begins with."""
_BY_ZEROS = {
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
}
_DECLARED = re.compile(rb"<\?xml\s[^>]{0,200}?encoding\s*=\s*[\"']\s*([\w.:-]{1,40})", re.ASCII)
_DECLARATION = re.compile(r"\s*<\?xml\s[^>]{0,1000}>")
_NOT_TEXT = frozenset({"utf-7", "unicode-escape", "raw-unicode-escape", "idna", "punycode"})
"""Codecs that make text of bytes by rules of their own; no tool writes a report in one."""
_MICROSOFT = re.compile(r"(?:x-)?(?:windows|ms|cp)-?(\d+)j?")

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_SPECIAL = re.compile(r"<!\[CDATA\[|\]\]>|<!--|-->|&#(?:[xX]([0-9A-Fa-f]{1,30})|([0-9]{1,30}));")
_STARTS = re.compile(r"[&<\]-]")
_SPECIAL_CHARS_MAX = 40
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def utf8_chunks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the text in `chunks` as UTF-8 without declaration, piece by piece."""
    chunks = iter(chunks)
    head, lines = _head(chunks)
    encoding, skip = _encoding(head)
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    cleaner = _Cleaner()
    first = decoder.decode(head[skip:]).lstrip("\ufeff\0")
    declaration = _DECLARATION.match(first)
    if declaration is not None:
        first = "\n" * declaration[0].count("\n") + first[declaration.end() :]
    yield cleaner.clean("\n" * lines + first)
    for chunk in chunks:
        yield cleaner.clean(decoder.decode(chunk))
    yield cleaner.clean(decoder.decode(b"", final=True), is_last=True)


def _head(chunks: Iterator[bytes]) -> tuple[bytes, int]:
    """Return the first bytes without blanks before them, and how many lines the blanks were."""
    head, lines = b"", 0
    for chunk in chunks:
        head += chunk
        if b"\0" not in head[:4]:
            text = head.lstrip(_BLANKS)
            lines += head.count(b"\n") - text.count(b"\n")
            head = text
        if len(head) >= _HEAD_BYTES:
            break
    return head, min(lines, _BLANK_LINES_MAX)


def _encoding(head: bytes) -> tuple[str, int]:
    """Return the encoding, and how many bytes its mark takes.

    What the bytes show goes before what they declare: a file saved again by another program
    keeps its old declaration.
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    # Without a mark, the two characters a report begins with show it by their NULs.
    zeros = tuple(byte == 0 for byte in head[:4])
    if zeros in _BY_ZEROS:
        return _BY_ZEROS[zeros], 0
    declared = _DECLARED.match(head)
    return (_codec(declared[1].decode("ascii")) if declared else "utf-8"), 0


def _codec(name: str) -> str:
    """Return Python's codec of that name; UTF-8 if it has none, or the bytes show it is not."""
    microsoft = _MICROSOFT.fullmatch(name.lower())
    for candidate in (name, f"cp{microsoft[1]}" if microsoft else "", name.removeprefix("x-")):
        try:
            codec = codecs.lookup(candidate).name
            # Not of bytes to bytes, and as ASCII where the declaration stood: UTF-16 is not.
            if codec not in _NOT_TEXT and "<?xml".encode(codec) == b"<?xml":
                return codec
        except (LookupError, ValueError):
            continue
    return "utf-8"


class _Cleaner:
    """Replaces what XML cannot hold in a text that comes in pieces.

    A reference to a character may be cut in two by the end of a piece, so a piece ends before the
    last mark that stands near its end. In CDATA and in comments a reference is no reference.
    """

    def __init__(self) -> None:
        self._held = ""
        self._until = ""

    def clean(self, text: str, *, is_last: bool = False) -> bytes:
        """Return the next piece of text, cleaned."""
        text = self._held + text
        end = len(text)
        if not is_last and (mark := _STARTS.search(text, max(0, end - _SPECIAL_CHARS_MAX))):
            end = mark.start()
        self._held = text[end:]
        text = _SPECIAL.sub(self._special, text[:end])
        return _UNPRINTABLE.sub(_UNKNOWN, text).encode()

    def _special(self, found: re.Match[str]) -> str:
        mark = found[0]
        if self._until:
            if mark == self._until:
                self._until = ""
        elif mark.startswith("<"):
            self._until = "]]>" if mark.startswith("<![") else "-->"
        elif mark.startswith("&"):
            number = int(found[1], 16) if found[1] else int(found[2])
            return f"&#{number};" if _can_be_held(number) else _UNKNOWN
        return mark


def _can_be_held(number: int) -> bool:
    return number <= 0x10FFFF and not _UNPRINTABLE.match(chr(number))
