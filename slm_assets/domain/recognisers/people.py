"""Names of people: where the words around say so, and first names of a list before another name.

    my name is …   Mr. …   Dear …,   Kind regards,\\n…   passenger: …   Anna Muster

A single name in the middle of a sentence, and a first name that no list has, stay: a policy removes those by place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from slm_assets.domain.recognisers.names import Names, fold, known
from slm_assets.domain.recognisers.spans import Find, Span

LONGEST = 6
"""Words of a name."""
# A letter of a number such as T-1234 is no word.
_WORD = re.compile(r"(?<!\w)(?<!\w-)[^\W\d_]+(?:['’\-][^\W\d_]+)*(?!\w|-\w)")
_UPPER = re.compile(r"[^\W\d_a-zß-öø-ÿ]")
_PARTICLES = """
af al bin da das de del della den der des di do dos du e el la las le los ten ter van von y zu
"""
_TITLES = """
mr mrs ms miss mx dr prof professor sir lord lady rev herr herrn frau hr fr fräulein univ dipl ing med mag mme
mlle m monsieur madame mademoiselle maître sr sra srta señor señora señorita don doña signor signora sig
"""
_GREETING = """
dear hi hello hey hallo liebe lieber bonjour bonsoir cher chère salut hola querido querida estimado estimada
"""
_INTRODUCTION = (
    r"my (?:full |first |last )?name is|my name[’']s|i am called|they call me|ich hei(?:ß|ss)e|mein name ist"
    r"|je m[’']appelle|mon nom est|me llamo|mi nombre es|mi chiamo"
)
_LABEL = (
    r"(?:(?:full|first|last|customer|passenger|guest|contact|travell?er)[ _]?)?name|passenger|travell?er|guest|customer"
    r"|patient|contact|attn|attention|signed|kunde|gast|nombre|nom|prénom"
)
_STRONG = re.compile(
    rf"(?i)\b(?:{_INTRODUCTION}|(?:{_LABEL})[\"']? ?[:=]"
    r"|(?:mr|mrs|ms|dr|prof|herrn?|frau|señora?|sra?|mme|madame|monsieur)\b\.?)"
    r"[ \"'’:=]*$"
)
_CLOSING = re.compile(
    r"(?i)(?:regards|cheers|thanks|thank you|best|wishes|sincerely|yours|truly|faithfully|gr(?:ü|u)(?:ß|ss)en?|lg|mfg"
    r"|vg|cordialement|salutations|bien à vous|merci|saludos?|atentamente|gracias|danke)[ ,.!–—-]*\n\s*$"
)
_WEAK = re.compile(r"(?i)\b(?:i[’']?m|i am|this is|ich bin|hier ist|je suis|c[’']est|soy|called|named)[ ,:]*$")
_INTRODUCED = re.compile(rf"(?i)\b(?:{_INTRODUCTION}) +")


_PARTICLE, _TITLE, _GREET = (frozenset(words.split()) for words in (_PARTICLES, _TITLES, _GREETING))


@dataclass(frozen=True)
class _Word:
    text: str
    folded: str
    start: int
    end: int

    @property
    def capital(self) -> bool:
        return self.text[0].isupper()


def people() -> Find:
    """Names of people in running text."""
    lists = known()

    def find(text: str) -> Iterator[Span]:
        if _UPPER.search(text):
            for run in _runs(text):
                yield from _named(text, run, lists)
        if " " in text:
            yield from _lower(text, lists)

    return find


def _runs(text: str) -> Iterator[list[_Word]]:
    """Stretches of capitalised words, with particles between them."""
    run: list[_Word] = []
    for match in _WORD.finditer(text):
        word = _Word(match.group(), fold(match.group()), match.start(), match.end())
        if run and not _joined(text, run[-1], word):
            yield from _ended(run)
            run = []
        if word.capital or (run and word.folded in _PARTICLE):
            run.append(word)
        elif run:
            yield from _ended(run)
            run = []
    yield from _ended(run)


def _joined(text: str, before: _Word, after: _Word) -> bool:
    gap = text[before.end : after.start]
    return gap == " " or (gap in (". ", ".", ".-") and (len(before.text) < 3 or before.folded in _TITLE))


def _ended(run: list[_Word]) -> Iterator[list[_Word]]:
    while run and not run[-1].capital:
        run = run[:-1]
    if run:
        yield run


def _named(text: str, run: list[_Word], lists: Names) -> Iterator[Span]:
    """The name in a run of capitalised words, if there is one; its titles are part of it."""
    greeted = run[0].folded in _GREET
    titled = next((at for at, word in enumerate(run) if _is_title(text, word)), None)
    low = first = int(greeted) if titled is None else titled
    while first < len(run) and _is_title(text, run[first]):
        first += 1
    rest = run[first : first + LONGEST]
    if not rest:
        return
    before = text[max(0, run[0].start - 40) : run[0].start]
    after = text[run[-1].end : run[-1].end + 1]
    told = titled is not None or _STRONG.search(before) or (_CLOSING.search(before) and after != " ")
    hinted = (greeted or _WEAK.search(before)) and _is_first(rest[0], lists) and rest[0].folded not in lists.cities
    if hinted or (told and rest[0].folded not in lists.words):
        yield run[low].start, rest[-1].end
    else:
        yield from _listed(rest, lists)


def _is_title(text: str, word: _Word) -> bool:
    # The M. of a.m. is none.
    return word.text.lower() in _TITLE and text[word.start - 1 : word.start] not in tuple(".&/")


def _listed(run: list[_Word], lists: Names) -> Iterator[Span]:
    """A first name of the list with another name behind it."""
    for index in range(len(run) - 1):
        first, second = run[index], run[index + 1]
        if len(second.text) == 1 and index + 2 < len(run):
            second = run[index + 2]
        both = _is_first(first, lists) and _is_second(first, second, lists)
        if both or (len(run) - index < 4 and _by_last(run[index:], lists)):
            stop = next((at for at in range(index + 2, len(run)) if run[at].folded in lists.words), len(run))
            yield first.start, run[min(stop, index + LONGEST) - 1].end
            return


def _is_first(word: _Word, lists: Names) -> bool:
    parts = re.split(r"['’\-]", word.folded)
    return word.folded not in lists.words and len(word.text) > 1 and any(part in lists.first for part in parts)


def _by_last(run: list[_Word], lists: Names) -> bool:
    """Whether words end in a surname of the list and hold nothing that is usually something else."""
    return run[-1].folded in lists.last and not any(
        word.folded in names or word.text.isupper() or len(word.text) < 3
        for word in run
        for names in (lists.words, lists.ordinary, lists.cities)
    )


def _is_second(first: _Word, second: _Word, lists: Names) -> bool:
    """Whether a word makes a full name of a first name: no ordinary word, no place with a place before it, and
    where everything is in capitals a surname of the list."""
    if len(second.text) < 2 or second.folded in lists.words or f"{first.folded} {second.folded}" in lists.cities:
        return False
    if first.folded in lists.ordinary and (second.folded not in lists.last or second.folded in lists.ordinary):
        return False
    if first.folded in lists.cities and (second.folded in lists.cities or second.folded not in lists.last):
        return False
    if second.text.isupper():
        return first.text.isupper() and second.folded in lists.last
    return True


def _lower(text: str, lists: Names) -> Iterator[Span]:
    """Names without capitals, of the lists, right after an introduction."""
    for found in _INTRODUCED.finditer(text):
        end = at = found.end()
        while (word := _WORD.match(text, at)) and end - found.end() < 40:
            folded = fold(word.group())
            if folded not in lists.first and folded not in lists.last and folded not in _PARTICLE:
                break
            if folded in lists.words:
                break
            end, at = word.end(), word.end() + 1
        if end > found.end():
            yield found.end(), end
