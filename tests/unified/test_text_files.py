"""Text and JSON of others: byte order marks, bad bytes, numbers and nesting without end."""

import pytest

from unified.text_files import DEEPEST, content_of, parse_json, read_json, read_lines, read_object, read_text


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n')
    assert read_text(path) == '{"a": 1}\r\n'
    assert read_object(path) == {"a": 1}
    assert read_lines(path) == [b'{"a": 1}\r']


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("1 2", "not JSON: Extra data"),
        ("[NaN]", "NaN is not a number that JSON has"),
        ("-Infinity", "-Infinity is not a number"),
        ("1e400", "the number 1e400 is too large"),
        ("-1" + "0" * 5000, "a number of 5001 digits is too large"),
        ("[" * 100_000, "nested more than 100 levels deep"),
        ('{"a":' * 2000, "nested more than 100 levels deep"),
        (b'"\xff"', "not UTF-8 text: invalid start byte at byte 1"),
    ],
)
def test_what_is_no_json_is_told_in_one_line(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)


def test_what_is_json_comes_as_it_is():
    deep = "[" * DEEPEST + "]" * DEEPEST
    assert (
        parse_json(f'{{"a": [1, -2.5e3, "]]{"[" * 300}", null], "b": {deep}}}'.replace(deep, deep[1:-1]))[
            "a"
        ][1]
        == -2500
    )
    assert parse_json('"\\ud83d"') == "\ud83d"


def test_a_file_names_itself(tmp_path):
    path = tmp_path / "a.json"
    for content, message in (
        (b"[1]", "expected an object, found list"),
        (b'{"a": "\\ud83d"}', "half of a surrogate pair"),
        (b"\xff\xfe{\0}\0", "UTF-16: save it as UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            read_object(path)
        assert str(caught.value).startswith(str(path))
    with pytest.raises(ValueError, match=r"cannot be read \(No such file or directory\)"):
        read_json(tmp_path / "none")
    with pytest.raises(ValueError, match=r"cannot be read \(Is a directory\)"):
        read_text(tmp_path)


def test_what_a_file_leads_to_is_said_of_the_file():
    def wrong(error):
        with pytest.raises(ValueError, match=r"a.json: ") as caught, content_of("a.json"):
            raise error
        assert caught.value.__cause__ is error
        return str(caught.value)

    assert wrong(KeyError("width")) == "a.json: 'width' is missing"
    assert wrong(TypeError("no\nnumber")) == "a.json: TypeError: no"
    assert wrong(ValueError("a.json: known")) == "a.json: known"
