"""Words that no formula holds, by habit from elsewhere: what to write instead, and what to read in their place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from datasense_assets.recipes.formula.errors import MOST_ERRORS, FormulaError, error_at

if TYPE_CHECKING:
    from lark import Token

DEEPEST_BRACKETS = 60

FOREIGN_OPERATORS = {
    "==": ("COMPARE", "=", "Equality is written with one =."),
    "=>": ("COMPARE", ">=", "Write >=."),
    "=<": ("COMPARE", "<=", "Write <=."),
    ":=": ("COMPARE", "=", "A formula says only the value; to compare, write =."),
    "&&": ("AND", "and", "Write and."),
    "||": ("OR", "or", "Write or between conditions; to join text, write concat(a, b)."),
    "**": ("CARET", "^", "A power is written with ^."),
    "&": ("OR", "concat", "To join text, write concat(a, b)."),
    "|": ("OR", "or", "Write or."),
    "≠": ("COMPARE", "<>", "Write <> or !=."),
    "≤": ("COMPARE", "<=", "Write <=."),
    "≥": ("COMPARE", ">=", "Write >=."),
    "×": ("STAR", "*", "Write *."),
    "÷": ("SLASH", "/", "Write /."),
    "−": ("MINUS", "-", "This is a typographic minus; write -."),
    "!": ("NOT", "not", "Write not."),
}
"""By the operator as written: the type of the word it stands for, what to write, and a hint."""

STRAY_HINTS = {
    "$": "Columns are named, not addressed: write the column's name without $.",
    ":": "There are no ranges: name each column, as in min(a, b, c).",
    "]": "There is no [ before it.",
    "#": "A column's name with # in it goes in square brackets: [No. #].",
    ".": "A column's name with a dot in it goes in square brackets: [a.b].",
    "?": "To choose between two values, write if(condition, a, b).",
    "@": "Write the column's name without @.",
    "`": "A column's name goes in square brackets: [Any column name].",
    "{": "A column's name goes in square brackets: [Any column name].",
    "}": "A column's name goes in square brackets: [Any column name].",
}


@dataclass(slots=True)
class Cleaned:
    """Words that can be parsed, the mistakes taken out of them, and where a further complaint would be an echo."""

    tokens: list[Token] = field(default_factory=list)
    errors: list[FormulaError] = field(default_factory=list)
    echoes: set[int] = field(default_factory=set)


def clean(text: str, tokens: Iterable[Token]) -> Cleaned:
    """Take the foreign words out of `tokens`, each replaced by what was probably meant, or by nothing."""
    cleaned = Cleaned()
    after_mistake = False
    depth = 0
    for token in tokens:
        start = token.start_pos or 0
        meant = _meant(text, token, cleaned)
        if after_mistake or meant is not token:
            cleaned.echoes.add(start)
        after_mistake = meant is not token
        if len(cleaned.errors) >= MOST_ERRORS:
            cleaned.tokens.clear()
            return cleaned
        if meant is None:
            continue
        cleaned.tokens.append(meant)
        depth += {"LPAR": 1, "RPAR": -1}.get(meant.type, 0)
        if depth > DEEPEST_BRACKETS:
            message = (
                f"More than {DEEPEST_BRACKETS} brackets are inside each other here. "
                "Work out the inner part in a formula step of its own and use its column."
            )
            cleaned.errors.append(error_at(text, start, 1, "too_complex", message))
            cleaned.tokens.clear()
            return cleaned
    if after_mistake:
        cleaned.echoes.add(len(text))
    return cleaned


def _meant(text: str, token: Token, cleaned: Cleaned) -> Token | None:
    """The token itself, or what it stands for (None: nothing) with the mistake noted."""
    from lark import Token as Word

    def note(message: str, suggestion: str | None = None) -> None:
        cleaned.errors.append(error_at(text, token.start_pos or 0, len(token), "syntax", message, suggestion))

    if token.type == "FOREIGN_OPERATOR":
        kind, instead, hint = FOREIGN_OPERATORS[token]
        note(f"{token} is no operator of formulas. {hint}", instead)
        return Word.new_borrow_pos(kind, token, token)
    if token.type == "FOREIGN_SEPARATOR":
        note(f"Arguments are separated by a comma, not by {token}", ",")
        return Word.new_borrow_pos("COMMA", token, token)
    if token.type == "CURLY_TEXT":
        inside = token.strip("“”„‟«»‘’‚‛‹›")
        note("These are typographic quotes. Write text between straight quotes: 'text' or \"text\".", f"'{inside}'")
        return Word.new_borrow_pos("TEXT", "''", token)
    if token.type == "UNCLOSED_TEXT":
        cleaned.echoes.add(len(text))
        note(f"The text that starts here has no closing {token[0]}. A {token[0]} inside text is doubled.")
        return Word.new_borrow_pos("TEXT", "''", token)
    if token.type == "UNCLOSED_NAME":
        if len(token) == 2:
            note("The brackets are empty. Write a column's name in them: [Any column name].")
        else:
            cleaned.echoes.add(len(text))
            note("The column name that starts here has no closing ]. A ] inside a name is doubled.")
        return Word.new_borrow_pos("NULL", "null", token)
    if token.type == "STRAY":
        hint = STRAY_HINTS.get(token, "Take it out.")
        note(f"{token} cannot stand in a formula. {hint}")
        return None
    return token
