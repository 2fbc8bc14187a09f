"""Reading formulas: names, quotes, precedence, mistakes with their places, limits, renaming."""

from __future__ import annotations

import string
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datasense_assets.recipes.formula import FormulaErrors, parse_formula, rename_reference
from datasense_assets.recipes.formula.errors import CODES
from datasense_assets.recipes.formula.grammar import reference_text
from datasense_assets.recipes.formula.names import bracketed
from datasense_assets_tests.at_length import examples


def problems(text: str) -> list[tuple[str, int, int]]:
    with pytest.raises(FormulaErrors) as caught:
        parse_formula(text)
    return [(error.code, error.position, error.length) for error in caught.value.errors]


@pytest.mark.parametrize(
    ("text", "references"),
    [
        ("a + b * a", ("a", "b")),
        ("[Any column name] + [a]]b]", ("Any column name", "a]b")),
        ("[[x]]]", ("[x]",)),
        ("[ spaced ]", (" spaced ",)),
        ("नमस्ते_हिन्दी + بيانات + 你好 + ተማሪ + Größe + สวัสดี", ("नमस्ते_हिन्दी", "بيانات", "你好", "ተማሪ", "Größe", "สวัสดี")),
        ("می\u200cخواهم", ("می\u200cخواهم",)),
        ("_ds_row_id", ("_ds_row_id",)),
        ("year(year) + left + text(date)", ("year", "left", "date")),
        ("'a' = \"[b]\" and c", ("c",)),
        ("NOT Null OR True AND and_b", ("and_b",)),
        ("[null] = [and]", ("null", "and")),
        ("f ( x )", ("x",)),
        ("1\n+\r\n\tx", ("x",)),
        ("1", ()),
    ],
)
def test_references_are_the_columns_of_the_text_in_its_order(text: str, references: tuple[str, ...]) -> None:
    assert parse_formula(text).references == references


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [("syntax", 0, 0)]),
        ("  ", [("syntax", 2, 0)]),
        ("a +", [("syntax", 2, 1)]),
        ("a + * b", [("syntax", 4, 1)]),
        ("f(a,,b)", [("syntax", 4, 1)]),
        ("f(a, )", [("syntax", 5, 1)]),
        ("(a + b", [("syntax", 0, 1)]),
        ("f((a)", [("syntax", 1, 1)]),
        ("a + b)", [("syntax", 5, 1)]),
        ("a b", [("syntax", 2, 1)]),
        ("name of district + 1", [("syntax", 5, 2)]),
        ("2nd_visit", [("syntax", 1, 8)]),
        ("a, b", [("syntax", 1, 1)]),
        ("=a", [("syntax", 0, 1)]),
        ("a == b", [("syntax", 2, 2)]),
        ("a && b", [("syntax", 2, 2)]),
        ("a & b", [("syntax", 2, 1)]),
        ("a > = b", [("syntax", 4, 1)]),
        ("if(a; b; c)", [("syntax", 4, 1), ("syntax", 7, 1)]),
        ("“a” = b", [("syntax", 0, 3)]),
        ("a ≤ b − 1", [("syntax", 2, 1), ("syntax", 6, 1)]),
        ("'abc", [("syntax", 0, 4)]),
        ("concat(a, 'b)", [("syntax", 10, 3)]),
        ("[abc", [("syntax", 0, 4)]),
        ("[] + 1", [("syntax", 0, 2)]),
        ("and(a, b)", [("syntax", 0, 3)]),
        ("a = not b", [("syntax", 4, 3)]),
        ("1 < x < 5", [("syntax", 0, 9)]),
        ("$A$1", [("syntax", 0, 1), ("syntax", 2, 1)]),
        ("a.b", [("syntax", 1, 1)]),
        ("a == 1 or (b * ) and 'x' 'y'", [("syntax", 2, 2), ("syntax", 15, 1), ("syntax", 25, 3)]),
        ("a\x00b\ud800", [("syntax", 1, 1), ("syntax", 3, 1)]),
    ],
)
def test_every_mistake_is_named_once_at_its_place(text: str, expected: list[tuple[str, int, int]]) -> None:
    assert problems(text) == expected


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("First name", "[First name]"),
        ("name of district", "[name of district]"),
        ("2nd", "[2nd]"),
        ("a == b", "one ="),
        ("a & b", "concat(a, b)"),
        ("a && b", "Write and"),
        ("=a", "Leave it out"),
        ("“a”", "straight quotes"),
        ("`a`", "square brackets"),
        ("f(a; b)", "comma"),
        ("1 < x < 5", "a < b and b < c"),
        ("1,5", "1.5"),
        ("and(a, b)", "a and b"),
        ("x = $A", "without $"),
        ("a ? b", "if(condition, a, b)"),
    ],
)
def test_the_message_says_what_to_write_instead(text: str, hint: str) -> None:
    with pytest.raises(FormulaErrors) as caught:
        parse_formula(text)
    assert hint in caught.value.errors[0].message


def test_a_place_is_also_given_as_line_and_column() -> None:
    with pytest.raises(FormulaErrors) as caught:
        parse_formula("a +\n  b *\n * c")
    [error] = caught.value.errors
    assert (error.position, error.line, error.column) == (11, 3, 2)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000 + ")" * 10_000,
        "(" * 4_999 + "1" + ")" * 4_999,
        "(" * 9_999,
        ")" * 9_999,
        "[" * 9_999,
        "'" * 9_999,
        "-" * 9_999 + "1",
        "not " * 2_400 + "a",
        "f(" * 3_000 + ")" * 3_000,
        "if(a," * 1_000 + "b" + ")" * 1_000,
        "a " * 5_000,
        "1" * 20_000,
        "== " * 3_000,
        "“" * 9_999,
        ";" * 9_999,
        "a," * 4_000,
    ],
    ids=lambda text: f"{text[:6]}x{len(text)}",
)
def test_hostile_text_gives_errors_and_soon(text: str) -> None:
    with pytest.raises(FormulaErrors) as caught:
        parse_formula(text)
    assert all(error.code in CODES for error in caught.value.errors)


def test_long_but_honest_text_is_read() -> None:
    assert len(parse_formula(" + ".join(f"column_{i}" for i in range(600))).references) == 600
    assert parse_formula("(" * 50 + "a" + ")" * 50).references == ("a",)


PIECES = [
    *"+-*/%^()=<>,;.!&|$#@?:{}~`\\", "<>", "!=", "<=", ">=", "==", "and", "or", "not", "true", "null",
    "a", "b c", "[x y]", "[", "]", "]]", "'", '"', "'t'", '"u"', "''", "1", "2.5", "1e9", ".5", "if(", "round(",
    "case(", "concat(", "date('2026-01-01')",
    " ", "\n", "“", "−", "नमस्ते", "بيانات", "\u0301", "\u200d", "\x00", "\ud800", "é", "🙂",
]  # fmt: skip


@settings(max_examples=examples(400, deep=20_000), deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=25).map("".join)))
@example("a;b")
@example(")(")
@example("f(,)")
@example("and(")
@example("a = = b")
def test_any_text_is_a_formula_or_raises_formula_errors(text: str) -> None:
    try:
        formula = parse_formula(text)
    except FormulaErrors as caught:
        assert caught.errors
        for error in caught.errors:
            assert error.code in CODES
            assert 0 <= error.position <= len(text)
            assert 0 <= error.length <= len(text) - error.position
            assert error.message
    else:
        assert rename_reference(text, "no such column", "other") == text
        assert formula.text == text


NAMES = st.text(min_size=1, max_size=12).filter(
    lambda name: "\x00" not in name and name.isprintable()
) | st.sampled_from(
    [
        "a",
        "b",
        "and",
        "Null",
        "First name",
        "a]b",
        "]",
        "[",
        "[]",
        "x.y",
        "g/h",
        "नमस्ते",
        "2nd",
        "year",
        "e\u0301",
        "'",
        '"',
        "\u0301x",
    ]
)


@settings(max_examples=300, deadline=None)
@given(NAMES)
def test_any_name_can_be_referred_to(name: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in name):
        return
    assert parse_formula(reference_text(name)).references == (name,)
    assert parse_formula(f"1+{reference_text(name)}*2").references == (name,)


SAFE_NAMES = NAMES.filter(lambda name: not any("\ud800" <= character <= "\udfff" for character in name))


@settings(max_examples=300, deadline=None)
@given(
    references=st.lists(st.tuples(SAFE_NAMES, st.booleans()), min_size=1, max_size=5),
    new=SAFE_NAMES,
    glue=st.sampled_from([" + ", "*", " and\t", "\n-\t", ", 'it''s [b] \"c\"', ", ", f(1) , ", "+ ( 2 ) %"]),
)
def test_renaming_there_and_back_leaves_every_other_byte(
    references: list[tuple[str, bool]], new: str, glue: str
) -> None:
    old = references[0][0]

    def text_with(name_of_old: str) -> str:
        written = [
            bracketed(renamed) if in_brackets or reference_text(name) != name else reference_text(renamed)
            for name, in_brackets in references
            for renamed in [name_of_old if name == old else name]
        ]
        return f"  concat( 'x[{new.replace(chr(39), '')}]' ,{glue.join(written)} )\n"

    renamed = rename_reference(text_with(old), old, new)
    assert renamed == text_with(new)
    if new not in {name for name, _ in references} and reference_text(new) == new:
        assert rename_reference(renamed, new, old) == text_with(old)


@pytest.mark.parametrize(
    ("text", "old", "new", "renamed"),
    [
        ("a + [a] * year(a)", "a", "b", "b + [b] * year(b)"),
        ("a+1", "a", "First name", "[First name]+1"),
        ("a+1", "a", "x]y", "[x]]y]+1"),
        ("a = 'a' and aa", "a", "and", "[and] = 'a' and aa"),
        ("year(year)", "year", "an", "year(an)"),
        ("[First name]  =\n'x' ", "First name", "name", "[name]  =\n'x' "),
        ("A + a", "a", "b", "A + b"),
        ("न + 1", "न", "नाम", "नाम + 1"),
        ("TRUE and x", "TRUE", "y", "TRUE and x"),
    ],
)
def test_renaming(text: str, old: str, new: str, renamed: str) -> None:
    assert rename_reference(text, old, new) == renamed


def test_renaming_in_what_is_no_formula_is_refused() -> None:
    with pytest.raises(FormulaErrors):
        rename_reference("a +", "a", "b")
    for name in ("", "\x00", "\ud800"):
        with pytest.raises(ValueError, match="cannot be a column's name"):
            rename_reference("a", "a", name)


def test_a_letter_of_any_script_can_begin_a_bare_name() -> None:
    refused = [
        character
        for code in range(0x80, 0x3000)
        if unicodedata.category(character := chr(code)) in {"Lu", "Ll", "Lt", "Lo"}
        and reference_text(character) != character
    ]
    assert refused == []


def test_ascii_punctuation_never_begins_a_bare_name() -> None:
    assert all(reference_text(character).startswith("[") for character in string.punctuation if character != "_")


def test_reading_a_formula_loads_no_ibis() -> None:
    script = (
        "import sys; from datasense_assets.recipes.formula import parse_formula; assert 'lark' not in sys.modules;"
        " parse_formula('round(a, 1)'); assert 'ibis' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
