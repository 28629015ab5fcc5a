"""Names from data in Markdown, as a reader of it shows them."""

import pytest

from exvo.util.markdown import code, plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.352 [0.330, 0.371] ± 0.012, p < 0.001", "0.352 [0.330, 0.371] ± 0.012, p < 0.001"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)>"),
        ("</td><!-- --><?x", "&lt;/td>&lt;!-- -->&lt;?x"),
        ("&lt;b> AT&T & co &#60;", "&amp;lt;b> AT&T & co &amp;#60;"),
        ("[x](javascript:alert(1))", "[x]\\(javascript:alert(1))"),
        ("[x][y]\n[y]: http://z", "[x]\\[y] [y]\\: http://z"),
        ("`a`", "\\`a\\`"),
        ("two\r\nlines | of a cell", "two lines / of a cell"),
    ],
)
def test_markup_in_text_is_shown_and_not_read(text, expected):
    assert plain(text) == expected


def test_code_ends_where_it_should():
    assert code("a`<b>`\n\nc") == "`a'<b>' c`"
