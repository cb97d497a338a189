"""The declarative oracle: patterns, lexicons and CEL expressions, read from YAML. No code is run.

A rules file has these parts; a name is computed when a rule first needs it:

    paths:     {name: {path: /a/b, default: ""}}      a plain variable; the default stands for absence
    lexicons:  {name: {path: /text, entries: {alias: value}, take: all}}
    patterns:  {name: {path: /text, regex: "...", fold: true, cast: int, take: first}}
    let:       {name: "CEL", other: {template}}       each sees what stands before it
    rules:     [{id: name, when: "CEL", then: {template}}]   the first match answers
    default:   {template}                             where no rule matches; optional

A template is JSON in which a string that starts with "=" is a CEL expression (write "==" for a literal
"="), and a key that ends with "?" is dropped when its value is null. `input` is the whole input.
Lexicons and patterns give a list of what they found in text order, or with `take: first` / `last` that
one value or null. A lexicon matches whole words, the longest alias first, ignoring case. A pattern (a list
of patterns stands for any of them) gives its group, its named groups as a map, or the whole match; `{name}`
in it stands for any alias of a lexicon, and `cast` reads the match as int, as float or through a lexicon.
`fold` (the default) compares in lower case, NFKC.

Patterns run on RE2 (linear time); sizes, counts and nesting are bounded, so that a rules file can be
wrong but neither hang nor reach outside its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import ConfigError, Fault
from slm_assets.models.base import Prediction
from slm_assets.models.rules_compile import Compiler, Program
from slm_assets.models.rules_text import RulesError, at_pointer

MAX_VALUE_BYTES = 1_000_000


class Answer(NamedTuple):
    """What an oracle said: an output, or None and why there is none."""

    output: Json
    error: str = ""


def check_rules(doc: Json, file: str) -> list[Fault]:
    """Every fault of a rules document: shape, names, patterns and expressions; empty when it compiles."""
    return sorted(Compiler(doc, file).faults)


class _Scope(dict[str, Json]):
    """The names of a document for one input; each is computed when it is first asked for, then kept."""

    def __init__(self, program: Program, value: Json) -> None:
        super().__init__(input=value)
        self._program, self._value = program, value

    def __missing__(self, name: str) -> Json:
        program = self._program
        if name in program.paths:
            steps, default = program.paths[name]
            found = at_pointer(self._value, steps)
            result = default if found is None else found
        elif name in program.lexicons:
            result = program.lexicons[name].find(self._value)
        elif name in program.patterns:
            result = program.patterns[name].find(self._value)
        else:
            result = _bounded(program.lets[name](self), f"$.let.{name}")
        self[name] = result
        return result


class RulesOracle:
    """A predictor made of a rules document. Raises ConfigError with every fault of the document."""

    def __init__(self, doc: Json, *, file: str = "rules", domain: str = "?") -> None:
        compiler = Compiler(doc, file)
        if compiler.faults:
            raise ConfigError(domain, compiler.faults)
        self._program = compiler.program

    def answer(self, value: Json) -> Answer:
        """The output of the first rule that matches, or None and the reason."""
        program = self._program
        scope = _Scope(program, value)
        try:
            for name, when, template in program.rules:
                matched = when(scope)
                if matched is True:
                    return Answer(_bounded(template(scope), f"rule {name}"))
                if matched is not False:
                    raise RulesError(when.place, "condition is no boolean", repr(matched)[:80], "true or false")
            if program.default is not None:
                return Answer(_bounded(program.default(scope), "$.default"))
        except RulesError as error:
            return Answer(None, str(error))
        return Answer(None, "no rule matched and there is no default")

    def predict(self, value: Json) -> Prediction:
        """The answer with confidence 1, or output None and confidence 0."""
        output, error = self.answer(value)
        return Prediction(None, 0.0, valid=False) if error else Prediction(output)

    def predict_many(self, values: Sequence[Json]) -> list[Prediction]:
        """One answer per input, in order."""
        return [self.predict(value) for value in values]


def _bounded(value: Json, place: str) -> Json:
    """The value, if it is JSON and of sane size: expressions could double a list at every step."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    try:
        size = len(value) if isinstance(value, str) else len(canonical.dumps(value))
    except TypeError as error:
        raise RulesError(place, "not a JSON value", type(value).__name__, "JSON") from error
    if size > MAX_VALUE_BYTES:
        raise RulesError(place, "value too large", f"{size} bytes", f"<= {MAX_VALUE_BYTES}")
    return value
