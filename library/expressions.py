"""Expressions: `0.8*cat2dog + day2winter - photo2sketch@3` as a sum of weighted references. Pure strings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from library.errors import BadExpression
from library.names import JOINTS, NUMBER, Reference, is_word_character, parse_reference

__all__ = ["Term", "format_terms", "parents_text", "parse_expression"]

EXPRESSION_FORM = "expected directions with weights, such as '0.8*cat2dog + day2winter - photo2sketch@3'"


@dataclass(frozen=True)
class Term:
    """One weighted reference of an expression."""

    weight: float
    reference: Reference


def parse_expression(text: str) -> list[Term]:
    """The terms of `text`, in order, equal references merged.

    Grammar: sums and differences of references, a number times or a reference divided by a number,
    parentheses. A '-' between two word characters belongs to a name (`cat2cat-wearing-glasses`),
    so a difference needs a space. Raises BadExpression, or BadName for a malformed reference.
    """
    parser = _Parser(text, _tokens(text))
    scale, terms = parser.sum()
    if parser.peek() is not None:
        parser.fail(f"stops making sense at {parser.peek()!r}")
    if not terms:
        parser.fail("names no direction")
    if scale:
        parser.fail(f"adds the number {scale:g} to a direction")
    merged: dict[Reference, float] = {}
    for term in terms:
        merged[term.reference] = merged.get(term.reference, 0.0) + term.weight
    if not all(math.isfinite(weight) for weight in merged.values()):
        parser.fail("has a weight that is not finite")
    return [Term(weight, reference) for reference, weight in merged.items()]


def format_terms(terms: Iterable[tuple[float, str]]) -> str:
    """`[(0.8, "a"), (-1, "b")]` → `"0.8*a - b"`."""
    parts: list[str] = []
    for weight, name in terms:
        size = abs(weight)
        body = name if size == 1 else f"{size:.6g}*{name}"
        if parts:
            parts.append(f"{'-' if weight < 0 else '+'} {body}")
        else:
            parts.append(f"-{body}" if weight < 0 else body)
    return " ".join(parts)


def parents_text(parents: Iterable[Mapping[str, Any]]) -> str:
    """The parents of a record as the expression that they are: `"0.8*cat2dog@1 + day2winter@2"`."""

    def ref(parent: Mapping[str, Any]) -> str:
        name, version = parent.get("name", "?"), parent.get("version")
        return str(name) if version is None else f"{name}@{version}"

    return format_terms([(float(parent.get("weight", 1)), ref(parent)) for parent in parents])


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        if character.isspace():
            position += 1
        elif character in "+-*/()−":
            tokens.append("-" if character == "−" else character)
            position += 1
        elif number := _number_at(text, position):
            tokens.append(number)
            position += len(number)
        else:
            end = position
            while end < len(text) and _continues_word(text, end):
                end += 1
            end = max(end, position + 1)
            tokens.append(text[position:end])
            position = end
    return tokens


def _number_at(text: str, position: int) -> str | None:
    match = NUMBER.match(text, position)
    if match and not (match.end() < len(text) and _continues_word(text, match.end())):
        return match.group()
    return None


def _continues_word(text: str, position: int) -> bool:
    character = text[position]
    if is_word_character(character) or character in "_@":
        return True
    return character in JOINTS and position + 1 < len(text) and is_word_character(text[position + 1])


@dataclass
class _Parser:
    text: str
    tokens: list[str]
    position: int = field(default=0)

    def fail(self, fault: str) -> None:
        raise BadExpression(f"{self.text!r} {fault}; {EXPRESSION_FORM}")

    def peek(self) -> str | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def take(self) -> str | None:
        token = self.peek()
        self.position += 1
        return token

    def sum(self) -> tuple[float, list[Term]]:
        scale, terms = self.product()
        while self.peek() in ("+", "-"):
            sign = -1.0 if self.take() == "-" else 1.0
            more_scale, more_terms = self.product()
            scale += sign * more_scale
            terms = terms + _scaled(terms=more_terms, weight=sign)
        return scale, terms

    def product(self) -> tuple[float, list[Term]]:
        scale, terms = self.factor()
        while self.peek() in ("*", "/"):
            operator = self.take()
            right_scale, right_terms = self.factor()
            if operator == "/":
                if right_terms or right_scale == 0:
                    self.fail("divides by something that is not a number other than 0")
                scale, terms = scale / right_scale, _scaled(terms, 1 / right_scale)
            elif terms and right_terms:
                self.fail("multiplies two directions")
            else:
                terms = _scaled(terms, right_scale) + _scaled(right_terms, scale)
                scale *= right_scale
        return scale, terms

    def factor(self) -> tuple[float, list[Term]]:
        token = self.take()
        if token is None:
            self.fail("is empty" if not self.tokens else "ends too early")
        if token in ("-", "+"):
            scale, terms = self.factor()
            sign = -1.0 if token == "-" else 1.0
            return sign * scale, _scaled(terms, sign)
        if token == "(":
            scale, terms = self.sum()
            if self.take() != ")":
                self.fail("lacks a ')'")
            return scale, terms
        assert token is not None
        if NUMBER.fullmatch(token):
            if not math.isfinite(float(token)):
                self.fail(f"has the number {token}, which is too large")
            return float(token), []
        if token in "*/)":
            self.fail(f"stops making sense at {token!r}")
        return 0.0, [Term(1.0, parse_reference(token))]


def _scaled(terms: list[Term], weight: float) -> list[Term]:
    return [Term(weight * term.weight, term.reference) for term in terms]
