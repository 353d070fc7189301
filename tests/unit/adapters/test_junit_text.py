"""Reports in any encoding, true or not, with characters XML cannot hold."""

import pytest

from adapters.junit import parse_report
from adapters.junit.reader import CHUNK_BYTES
from adapters.junit.text import utf8_chunks

BODY = '<testsuite name="Prüfstand"><testcase name="Größe"><failure message="zu groß"/></testcase>'
HAN = '<testsuite name="台架"><testcase name="总线"><failure message="超时"/></testcase>'
KANA = '<testsuite name="ベンチ"><testcase name="バス"><failure message="時間"/></testcase>'
END = "</testsuite>"
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


def declared(name: str) -> str:
    return f'<?xml version="1.0" encoding="{name}"?>\n'


def one(data: bytes) -> tuple[str, str, str, str]:
    (case,) = parse_report(data, name="r.xml").cases
    return case.suite, case.name, case.status, case.message


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        (BODY, "utf-8"),
        (BOM + BODY, "utf-8"),
        (BOM + declared("UTF-16") + BODY, "utf-8"),
        (declared("UTF-16") + BODY, "utf-8"),
        (declared("ucs-4") + BODY, "utf-8"),
        (declared("utf8mb4") + BODY, "utf-8"),
        (declared("zip") + BODY, "utf-8"),
        (declared("unicode_escape") + BODY, "utf-8"),
        (declared("ISO-8859-1") + BODY, "latin-1"),
        (declared("windows-1252") + BODY, "cp1252"),
        (declared("ms-932") + KANA, "cp932"),
        (declared("Windows-31J").replace("31J", "932") + KANA, "cp932"),
        (declared("Shift_JIS") + KANA, "shift_jis"),
        (declared("x-sjis") + KANA, "shift_jis"),
        (declared("EUC-JP") + KANA, "euc_jp"),
        (declared("ISO-2022-JP") + KANA, "iso2022_jp"),
        (declared("GBK") + HAN, "gbk"),
        (declared("gb18030") + HAN, "gb18030"),
        (declared("Big5").replace("台", "台") + HAN.replace("总线", "匯"), "big5hkscs"),
        (BOM + declared("UTF-8") + BODY, "utf-16-le"),
        (BOM + declared("UTF-8") + BODY, "utf-16-be"),
        (BOM + BODY, "utf-32-le"),
        (BOM + BODY, "utf-32-be"),
        (declared("UTF-16") + BODY, "utf-16-le"),
        (declared("UTF-16") + BODY, "utf-16-be"),
        (declared("UTF-32") + BODY, "utf-32-le"),
        (declared("UTF-32") + BODY, "utf-32-be"),
        (f"\r\n \t{declared('latin1')}{BODY}", "latin-1"),
    ],
)
def test_encodings_true_and_untrue(text: str, codec: str) -> None:
    if "匯" in text:
        text = text.replace("台架", "臺").replace("超时", "逾時")
    suite, name, status, message = one((text + END).encode(codec))
    assert status == "failed"
    assert (suite, name, message) in {
        ("Prüfstand", "Größe", "zu groß"),
        ("台架", "总线", "超时"),
        ("臺", "匯", "逾時"),
        ("ベンチ", "バス", "時間"),
    }


def test_bytes_that_are_no_text_are_replaced() -> None:
    """GoogleTest and CTest copy what a test printed, whatever bytes that is."""
    data = (
        b'<?xml version="1.0" encoding="UTF-8"?><testsuite><testcase name="Pr\xfcf"/></testsuite>'
    )
    assert one(data)[1] == "Pr\ufffdf"


def test_a_declaration_of_version_1_1_is_read() -> None:
    assert one(b"<?xml version='1.1' encoding='UTF-8'?><testsuite><testcase name='a'/></testsuite>")


@pytest.mark.parametrize("before", ["\n", " \r\n\t", "\ufeff\n", "\n" * 100_000, "\0"])
def test_what_stands_before_the_declaration(before: str) -> None:
    assert one((before + declared("UTF-8") + BODY + END).encode())[2] == "failed"


@pytest.mark.parametrize(
    "after",
    [
        "<!-- by -->" + " " * 70_000 + "<!-- us -->",
        "\0",
        "\0" * 100_000,
        "\x1a",
        "\r\n\0\n",
        "\ufeff",
    ],
)
def test_what_follows_the_end(after: str) -> None:
    """A file that was allocated whole ends in NULs; one of DOS in Ctrl-Z."""
    assert one((BODY + END + after).encode())[2] == "failed"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("&#0;", "\ufffd"),
        ("&#x0;", "\ufffd"),
        ("&#x1B;[31m", "\ufffd[31m"),
        ("&#x1b;", "\ufffd"),
        ("&#00000000000000000027;", "\ufffd"),
        ("&#xD800;", "\ufffd"),
        ("&#xFFFE;", "\ufffd"),
        ("&#x110000;", "\ufffd"),
        (f"&#{'9' * 30};", "\ufffd"),
        ("&#XE9;", "é"),
        ("&#x00E9;&#233;", "éé"),
        ("&#10;b", "\nb"),
        ("\x00\x08\x1b", "\ufffd\ufffd\ufffd"),
        ("\ufffe\uffff", "\ufffd\ufffd"),
        ("&lt;&amp;#0;", "<&#0;"),
    ],
)
def test_characters_xml_cannot_hold_are_replaced(written: str, read: str) -> None:
    failure = f'<failure message="m{written}m">d{written}d</failure>'
    data = f'<testsuite><testcase name="a">{failure}</testcase></testsuite>'.encode()
    (case,) = parse_report(data, name="r.xml").cases
    assert (case.message, case.details) == (f"m{read}m", f"d{read}d")


def test_a_reference_in_cdata_or_a_comment_is_none() -> None:
    inner = (
        "<failure><!-- <![CDATA[ &#0; --><![CDATA[a ]] &#0; &#27;]]>&#0;<![CDATA[]]]]></failure>"
    )
    data = f'<testsuite><testcase name="a">{inner}</testcase></testsuite>'.encode()
    (case,) = parse_report(data, name="r.xml").cases
    assert case.details == "a ]] &#0; &#27;\ufffd]]"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_a_piece_may_end_anywhere(size: int) -> None:
    """References, marks and characters of many bytes are cut in two by the ends of pieces."""
    text = f"{declared('UTF-8')}<a>é&#x1B;<![CDATA[&#0;]]>&#0;<!-- &#0; -->\x1b台&#233;</a>\0"
    data = text.encode()
    whole = b"".join(utf8_chunks([data]))
    pieces = b"".join(utf8_chunks(data[n : n + size] for n in range(0, len(data), size)))
    assert pieces == whole
    assert (
        whole.decode() == "\n<a>é\ufffd<![CDATA[&#0;]]>\ufffd<!-- &#0; -->\ufffd台&#233;</a>\ufffd"
    )


@pytest.mark.parametrize("shift", range(12))
def test_a_reference_on_the_edge_of_a_piece(shift: int) -> None:
    padding = "x" * (CHUNK_BYTES - 60 + shift)
    data = f'<testsuite><testcase name="a"><failure>{padding}</failure></testcase></testsuite>'
    data = data.replace("<failure>", "<failure message='&#27;'>").replace("</fail", "&#27;\0</fail")
    assert one(data.encode())[3] == "\ufffd"


def test_an_error_names_the_line_of_the_file() -> None:
    from adapters.junit import InvalidReport

    with pytest.raises(InvalidReport, match="line 4"):
        parse_report(b"\n\n<?xml version='1.0'?>\n<testsuite><a></testsuite>", name="r.xml")
