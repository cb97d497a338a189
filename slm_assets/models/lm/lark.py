"""A bounded contract as a grammar in llguidance's dialect of Lark, and the longest text that it can write.

JSON without white space: what is trained on is written by the same tree (`writing`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from slm_assets.models.lm import formats, numbers
from slm_assets.models.lm.nodes import Either, Field, Fields, Items, Listed, Node, Number, Text

CHARACTER = r"(?:[^\"\\\x00-\x1f\x7f]|\\[\"\\bfnrt])"
_BYTES = 4
"""Of one character, in UTF-8; an escaped one has two."""
_QUOTED_BYTES = 6
"""Of one character where the engine quotes by itself: \\u001f."""


@dataclass(frozen=True)
class Grammar:
    """`text` is the grammar; `longest` the bytes of the longest output. A token is at least a byte."""

    text: str
    longest: int

    @property
    def max_tokens(self) -> int:
        """No output has more tokens, its end included."""
        return self.longest + 1


def grammar(node: Node) -> Grammar:
    """The grammar of a tree."""
    writer = _Writer()
    start = writer.rule(node)
    return Grammar("\n".join([f"start: {start}", *writer.lines]) + "\n", longest(node))


def longest(node: Node) -> int:
    """Bytes of the longest text."""
    match node:
        case Listed(texts):
            return max(len(text.encode()) for text in texts)
        case Text():
            return 2 + node.high * _bytes(node)
        case Number(low, high, decimals):
            return numbers.longest(low, high, decimals)
        case Items():
            sizes = [longest(one) for one in node.first[: node.high]]
            if node.each is not None:
                sizes += [longest(node.each)] * (node.high - len(sizes))
            return 2 + sum(sizes) + max(len(sizes) - 1, 0)
        case Fields(fields):
            sizes = [len(_quoted(one.key).encode()) + 1 + longest(one.node) for one in fields]
            return 2 + sum(sizes) + max(len(sizes) - 1, 0)
        case Either(branches):
            return max(longest(branch) for branch in branches)


def _bytes(node: Text) -> int:
    """Of one character, at most."""
    if formats.exact(node.format):
        return 1
    return _QUOTED_BYTES if node.patterns or node.format else _BYTES


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _repeated(body: str, low: int, high: int) -> str:
    return f"{body}{{{low},{high}}}" if high else ""


@dataclass
class _Writer:
    """Rules by node: equal nodes share one."""

    lines: list[str] = field(default_factory=list)
    names: dict[Node, str] = field(default_factory=dict)
    count: int = 0

    def rule(self, node: Node) -> str:
        if node not in self.names:
            name = self.names[node] = self._name()
            self._write(name, node)
        return self.names[node]

    def _name(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def _put(self, name: str, body: str) -> str:
        self.lines.append(f"{name}: {body}")
        return name

    def _write(self, name: str, node: Node) -> None:
        match node:
            case Listed(texts):
                self._put(name, " | ".join(_quoted(text) for text in texts))
            case Text():
                self._put(name, self._text(node))
            case Number(low, high, decimals):
                self._put(name, self._terminal(f"/{numbers.between(low, high, decimals)}/"))
            case Items():
                self._put(name, f'"[" {self._items(node)} "]"')
            case Fields(fields, low):
                self._put(name, f'"{{" {self._fields(list(fields), low)} "}}"')
            case Either(branches):
                self._put(name, " | ".join(self.rule(branch) for branch in branches))

    def _terminal(self, body: str) -> str:
        return self._put(self._name().upper(), body)

    def _text(self, node: Text) -> str:
        if formats.exact(node.format):
            return self._terminal(f'/"{formats.EXACT[node.format]}"/')
        if not node.patterns and not node.format:
            return self._terminal(f'/"{CHARACTER}{{{node.low},{node.high}}}"/')
        schema: dict[str, object] = {"type": "string", "minLength": node.low, "maxLength": node.high}
        if node.format:
            schema["format"] = node.format
        if node.patterns:
            schema["allOf"] = [{"type": "string", "pattern": pattern} for pattern in node.patterns]
        return f"%json {json.dumps(schema)}"

    def _items(self, node: Items) -> str:
        """[a, b, each…]: what must be there plainly, the rest as options that each need the one before."""
        nodes = [self.rule(one) for one in node.first[: node.high]]
        more = node.high - len(nodes)
        must = [('"," ' if i else "") + name for i, name in enumerate(nodes[: node.low])]
        tail = ""
        if node.each is not None and more > 0:
            each = self.rule(node.each)
            need = max(node.low - len(nodes), 0)
            if nodes:
                tail = _repeated(f'("," {each})', need, more)
            else:
                more_of = _repeated(f'("," {each})', max(need - 1, 0), more - 1)
                tail = f"{each} {more_of}"
                tail = tail if need else f"({tail})?"
        for i in range(len(nodes) - 1, len(must) - 1, -1):
            comma = '"," ' if i else ""
            tail = f"({comma}{nodes[i]} {tail})?"
        return " ".join([*must, tail]) or '""'

    def _fields(self, fields: list[Field], low: int) -> str:
        """Keys in order; which one comes first decides where the commas stand."""
        pairs = [f"{_quoted(_quoted(one.key) + ':')} {self.rule(one.node)}" for one in fields]
        rest = ['""'] * (len(fields) + 1)
        for i in range(len(fields) - 1, -1, -1):
            pair = f'"," {pairs[i]}'
            follows = "" if rest[i + 1] == '""' else f" {rest[i + 1]}"
            rest[i] = self._put(self._name(), (pair if fields[i].required else f"({pair})?") + follows)
        firsts = []
        for i, one in enumerate(fields):
            follows = "" if rest[i + 1] == '""' else f" {rest[i + 1]}"
            firsts.append(pairs[i] + follows)
            if one.required:
                return f"({' | '.join(firsts)})"
        if not firsts:
            return '""'
        return f"({' | '.join(firsts)})" + ("" if low else "?")
