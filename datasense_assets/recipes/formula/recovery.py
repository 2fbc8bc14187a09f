"""Feeding words to the parser so that one that cannot stand where it is gives a plain message and the rest is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasense_assets.recipes.formula.errors import MOST_ERRORS, FormulaError, error_at
from datasense_assets.recipes.formula.names import bracketed

if TYPE_CHECKING:
    from lark import Token

    from datasense_assets.recipes.formula.mistakes import Cleaned

OPERANDS = frozenset({"NUMBER", "TEXT", "TRUE", "FALSE", "NULL", "NAME", "BRACKETED", "LPAR", "NOT"})
END = "$END"

Complaint = tuple[str, str | None]


class RecoveringParser:
    """Reads the words of one text; `errors` holds what was wrong with their order."""

    def __init__(self, text: str, parser: Any, cleaned: Cleaned) -> None:
        """Start before the first word; `parser` is lark's interactive one, which is not typed."""
        self.errors: list[FormulaError] = []
        self._text = text
        self._parser = parser
        self._cleaned = cleaned
        self._open: list[Token] = []
        self._before: Token | None = None
        self._word_called = False
        self._recoveries = 0

    def parse(self) -> Any:
        """What the grammar's top rule built; of no use where there are errors."""
        from lark import Token

        end = Token(END, "", len(self._text))
        for token in [*self._cleaned.tokens, end]:
            if self._recoveries >= MOST_ERRORS:
                return None
            result = self._read(token)
            if token.type == "LPAR":
                self._open.append(token)
            elif token.type == "RPAR" and self._open:
                self._open.pop()
            self._before = token
        return result

    def _read(self, token: Token) -> Any:
        from lark.exceptions import UnexpectedToken

        # A word that is refused may have been reduced upon already, so it is tried on a copy.
        attempt = self._parser.copy(deepcopy_values=False)
        try:
            result = attempt.feed_token(token)
        except UnexpectedToken:
            return self._recover(token)
        self._parser = attempt
        return result

    def _recover(self, token: Token) -> Any:
        self._recoveries += 1
        if token.type == END:
            return self._end(token)
        wants_value = "NULL" in self._accepted()
        complaint = self._missing_value(token) if wants_value else self._missing_operator(token)
        if complaint and token.start_pos not in self._cleaned.echoes:
            self._note(token, *complaint)
        if wants_value and token.type not in OPERANDS and not self._leading_equals(token):
            self._mend("NULL", token)
        elif not wants_value and token.type in OPERANDS | {"COMMA"}:
            self._mend("OR", token)
        if token.type in self._accepted():
            return self._parser.feed_token(token)
        return None

    def _end(self, token: Token) -> Any:
        echo = token.start_pos in self._cleaned.echoes
        if "NULL" in self._accepted():
            if not echo:
                empty = self._before is None
                missing = "The formula is empty. Write a value, e.g. a column's name."
                ended = f"The formula ends too early: a value is missing after {_shown(self._before)}."
                self._note(token if empty else self._before or token, missing if empty else ended, None)
            self._mend("NULL", token)
        for bracket in reversed(self._open):
            if "RPAR" in self._accepted():
                if not echo:
                    self._note(bracket, "This ( is never closed. Write ) where it ends.", None)
                self._mend("RPAR", token)
        return self._parser.feed_token(token) if END in self._accepted() else None

    def _missing_value(self, token: Token) -> Complaint | None:
        before = self._before
        if token.type == "NOT":
            return "After an operator, not needs brackets: (not ...).", None
        if token.type == "RPAR" and not self._open:
            return "This ) closes nothing. Take it out.", None
        if self._leading_equals(token):
            return "A formula does not start with =. Leave it out.", None
        if token.type in {"AND", "OR"} and (before is None or before.type in {"LPAR", "COMMA"}):
            self._word_called = True
            word = token.lower()
            return f"A value is missing before {word}. It stands between conditions: a {word} b.", f"a {word} b"
        if before is not None and before.type == token.type == "COMPARE" and before + token in {"<=", ">=", "<>"}:
            return f"Write {before + token} without a space.", f"{before + token}"
        if before is None:
            return f"A value is missing before {_shown(token)}.", None
        return f"A value is missing between {_shown(before)} and {_shown(token)}.", None

    def _missing_operator(self, token: Token) -> Complaint | None:
        before = self._before
        if token.type == "RPAR":
            return "This ) closes nothing. Take it out.", None
        if token.type == "COMMA":
            if self._word_called:
                return None
            return "A comma separates the arguments of a function; here is none. A decimal is written 1.5.", None
        if before is None or before.start_pos is None:
            return f"{_shown(token)} cannot stand here.", None
        if token.type == "NAME" and before.type in {"NAME", "NUMBER"}:
            name = bracketed(self._text[before.start_pos : self._end_of_words(token)])
            return (
                f"An operator is missing between {_shown(before)} and {_shown(token)}. "
                f"If this is one column's name, write {_shortened(name)}."
            ), name
        return f"An operator (or a comma) is missing between {_shown(before)} and {_shown(token)}.", None

    def _end_of_words(self, token: Token) -> int:
        """Where a run of bare names ends; the rest of the run is no mistake of its own."""
        words = self._cleaned.tokens
        index = next(place for place, word in enumerate(words) if word is token)
        end = _end(token)
        for word in words[index + 1 :]:
            if word.type != "NAME":
                break
            self._cleaned.echoes.add(word.start_pos or 0)
            end = _end(word)
        return end

    def _accepted(self) -> set[str]:
        accepted: set[str] = self._parser.accepts()
        return accepted

    def _leading_equals(self, token: Token) -> bool:
        return self._before is None and str(token) == "="

    def _mend(self, kind: str, token: Token) -> None:
        from lark import Token as Word

        self._parser.feed_token(Word.new_borrow_pos(kind, kind.lower(), token))

    def _note(self, token: Token, message: str, suggestion: str | None) -> None:
        self.errors.append(error_at(self._text, token.start_pos or 0, len(token), "syntax", message, suggestion))


def _end(token: Token) -> int:
    return (token.start_pos or 0) + len(token)


def _shown(token: Token | None) -> str:
    return _shortened(str(token or ""))


def _shortened(written: str) -> str:
    return written if len(written) <= 40 else f"{written[:37]}..."
