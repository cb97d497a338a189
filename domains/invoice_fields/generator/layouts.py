"""The layouts: each puts the pieces of a paper into lines, as a reader of PDFs or mails would give them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

from generator.paper import Paper
from generator.written import GLUE, day


def columns(paper: Paper) -> list[str]:
    """Letterhead, buyer on the left with labelled facts on the right, items, sums at the right edge."""
    width = 40 + paper.supplier.traits["width"]
    meta = paper.meta()
    pad = max((len(label) for label, _ in meta), default=0) + 2
    right = [f"{label:<{pad}}{value}" for label, value in meta]
    left = paper.buyer()
    head, title = paper.head(), paper.title()
    lines = _beside(head, title, width) if paper.rng.random() < 0.5 else [*head, "", *title]
    lines += ["", *paper.date_line(), *_beside(left, right, width), ""]
    lines += _items(paper, width + 28)
    return lines + _sums(paper, width + 28) + ["", *_wrapped(paper.terms(), 78), "", *_wrapped(paper.footer(), 90)]


def grid(paper: Paper) -> list[str]:
    """The facts in a table with their labels above them; items and tax in tables too."""
    lines = [*paper.head(), "", *paper.buyer(), "", *paper.title(), *paper.date_line(), ""]
    meta = paper.meta()
    for start in range(0, len(meta), 4):
        part = meta[start : start + 4]
        wide = [max(len(label), len(value)) + 3 for label, value in part]
        for row in zip(*part, strict=True):
            lines.append("".join(f"{text:<{w}}" for text, w in zip(row, wide, strict=True)).rstrip())
        lines.append("")
    total = 66 + paper.supplier.traits["width"]
    lines += _items(paper, total)
    return lines + _sums(paper, total) + ["", *_wrapped(paper.terms(), 84), "", *_wrapped(paper.footer(), 84)]


def letter(paper: Paper) -> list[str]:
    """Prose: town and date, subject, salutation, sums as lines, a sentence about payment."""
    people, facts = paper.facts.people, paper.facts
    lines = [*paper.head(), "", *paper.buyer(), ""]
    lines += paper.date_line() or [paper.placed_date()]
    subject = paper.word("number_prose").format(number=paper.number())
    title = paper.word("title")
    lines += ["", f"{title} - {subject}" if facts.kind == "reminder" or paper.rng.random() < 0.3 else subject, ""]
    if facts.order:
        lines.append(f"{paper.label('po')} {paper.order()}")
    lines += [paper.word("salutation").format(**people), ""]
    lines += [*_body(paper, 74), ""]
    if facts.kind != "reminder" and paper.rng.random() < 0.8:
        lines += [f"{item.text}{_dots(paper)}{paper.amount(item.total)}" for item in facts.items] + [""]
    pairs, notes, table = paper.totals()
    lines += paper.before_totals()
    lines += [f"{label} {value}" for label, value in pairs] + _table(table, 14) + [*notes, *paper.note(), ""]
    lines += _wrapped([" ".join(paper.terms())], 74)
    return [*lines, "", paper.word("closing"), "", people["contact"], paper.name(), "", *_wrapped(paper.footer(), 90)]


def receipt(paper: Paper) -> list[str]:
    """A till's narrow slip: items with prices, the total, tax within it, how it was paid."""
    facts, rng, width = paper.facts, paper.rng, 32 + paper.supplier.traits["width"]
    lines = [line.center(width).rstrip() for line in [*paper.head(), paper.word("receipt_title")]]
    numbered = paper.supplier.traits["numbered"]
    if numbered:
        lines.append(f"{paper.label('receipt_number')} {paper.number()}")
    if not numbered or rng.random() < 0.5:
        lines.append(f"{paper.word('receipt')} {rng.randint(1000, 99999)}")
    clock = f"{rng.randint(8, 19):02}:{rng.randint(0, 59):02}"
    dated = f"{paper.label('date')} {paper.issued()}" if rng.random() < 0.5 else paper.issued()
    lines += [f"{dated} {clock}" if rng.random() < 0.6 else f"{dated}\n{paper.word('time')} {clock}"]
    lines += [paper.word("till").format(n=rng.randint(1, 9), m=rng.randint(10, 99)), "-" * width]
    for item in facts.items:
        many = item.quantity != 100
        if many:
            lines.append(f"{paper.quantity(item.quantity)} x {paper.priced(item.unit)}")
        lines.append(_between(item.text, paper.priced(item.total), width))
    lines.append("-" * width)
    pairs, notes, table = paper.totals(net=False)
    lines += [_between(label, value, width) for label, value in pairs]
    paid = paper.word("paid").format(n=rng.randint(1000, 9999))
    if facts.kind == "invoice":
        lines.append(_between(paid, paper.amount(facts.gross), width))
        if rng.random() < 0.25:
            given = facts.gross // 1000 * 1000 + 2000
            changes = [paper.supplier.words["change0"], paper.supplier.words["change1"]]
            sums = (given, given - facts.gross)
            lines += [_between(text, paper.amount(cents), width) for text, cents in zip(changes, sums, strict=True)]
    return [*lines, *_table(table, width // 3), *notes, *paper.note(), "", *_wrapped(paper.footer(), 44)]


def email(paper: Paper) -> list[str]:
    """A mail: header, greeting, a sentence, the facts as a list, a signature. Some state no date of issue: when the
    mail was sent is none."""
    facts, rng, supplier = paper.facts, paper.rng, paper.supplier
    heads = [supplier.words[f"mail{n}"] for n in range(4)]
    people, places = facts.people, supplier.places
    sender = paper.name() if supplier.head == "sender" else people["contact"]
    subject = paper.word("number_prose").format(number=paper.number())
    lines = [f"{heads[0]}: {sender} <{places['mail']}>"]
    lines.append(f"{heads[1]}: {people['person']} <{people['first'].lower()}@example.org>")
    if rng.random() < 0.6:
        lines.append(f"{heads[2]}: {day(supplier.hand, facts.issued)} {rng.randint(7, 18):02}:{rng.randint(0, 59):02}")
    lines += [f"{heads[3]}: {subject}", "", paper.word("salutation").format(**people), ""]
    lines += [*_body(paper, 72), ""]
    bullet = rng.choice(["- ", "* ", "", "  "])
    meta = [(label, value) for label, value in paper.meta() if value != facts.number or rng.random() < 0.5]
    lines += [f"{bullet}{label} {value}" for label, value in meta]
    if facts.kind != "reminder" and rng.random() < 0.6:
        lines += [f"{bullet}{item.text}: {paper.amount(item.total)}" for item in facts.items]
    pairs, notes, table = paper.totals()
    lines += paper.before_totals()
    lines += [f"{bullet}{label} {value}" for label, value in pairs] + _table(table, 14) + [*notes, *paper.note(), ""]
    lines += _wrapped([" ".join(paper.terms())], 72)
    lines += ["", paper.word("closing"), people["contact"], paper.name()]
    lines += [f"{places['street']}, {places['town']}", places["phone"]]
    return lines + (["", *_wrapped(paper.footer()[-2:], 72)] if supplier.traits["footer"] else [])


def stacked(paper: Paper) -> list[str]:
    """As a reader gives the text that knows no columns: each label on a line, its value on the next."""
    lines = [*paper.head(), *paper.title(), *paper.date_line()]
    blocks = [[part for label, value in paper.meta() for part in (label, value)], paper.buyer()]
    if paper.rng.random() < 0.5:
        blocks.reverse()
    lines += [line for block in blocks for line in [*block, ""]]
    if paper.facts.kind != "reminder":
        lines += paper.columns()
        for item in paper.facts.items:
            lines += [item.text, paper.quantity(item.quantity), paper.priced(item.unit), paper.priced(item.total)]
    pairs, notes, table = paper.totals()
    lines += paper.before_totals()
    lines += [text for row in [*pairs, *table] for text in row]
    return [*lines, *notes, *paper.note(), *_wrapped(paper.terms(), 84), "", *_wrapped(paper.footer(), 84)]


LAYOUTS: dict[str, Callable[[Paper], list[str]]] = {
    "columns": columns, "grid": grid, "letter": letter, "receipt": receipt, "email": email, "stacked": stacked,
}  # fmt: skip


def _body(paper: Paper, width: int) -> list[str]:
    return _wrapped([" ".join([paper.word("body"), *_asides(paper)])], width)


def _asides(paper: Paper) -> list[str]:
    """Sentences about other documents and other dates."""
    facts, hand = paper.facts, paper.supplier.hand
    if facts.original_date and facts.kind == "credit_note" and paper.rng.random() < 0.7:
        dated = day(hand, facts.original_date)
        return [paper.word("original_prose").format(number=facts.original, date=dated)]
    if facts.original_date and facts.kind == "reminder":
        return [paper.word("original_reminder").format(date=day(hand, facts.original_date))]
    if facts.period and paper.rng.random() < 0.3:
        start, end = (day(hand, when) for when in facts.period)
        return [paper.word("period_prose").format(start=start, end=end)]
    return []


def _dots(paper: Paper) -> str:
    return str(paper.rng.choice([": ", "  ", " ... ", " - "]))


def _beside(left: Sequence[str], right: Sequence[str], width: int) -> list[str]:
    """Two columns, line by line."""
    count = max(len(left), len(right))
    rows = zip([*left, *[""] * (count - len(left))], [*right, *[""] * (count - len(right))], strict=True)
    return [f"{a:<{max(width, len(a) + 3)}}{b}".rstrip() if b else a for a, b in rows]


def _between(label: str, value: str, width: int) -> str:
    return f"{label}{' ' * max(1, width - len(label) - len(value))}{value}"


def _wrapped(sentences: Sequence[str], width: int) -> list[str]:
    """Paragraphs broken into lines; what is glued stays together."""
    wrap = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    return [line for text in sentences for line in wrap.wrap(text)]


def _table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    return ["".join(f"{cell:<{max(width, len(cell) + 2)}}" for cell in row).rstrip() for row in rows]


def _items(paper: Paper, width: int) -> list[str]:
    """The items' table; long ones go over a page."""
    facts, traits = paper.facts, paper.supplier.traits
    if facts.kind == "reminder":
        return [*_body(paper, width), ""]
    count: int = traits["columns"]
    names = paper.columns()
    kept = {2: [0, 3], 3: [0, 1, 3], 4: [0, 1, 2, 3]}[count]
    side = 14
    room = width - side * (count - 1)
    lead = f"{paper.word('positions')[:4]:<5}" if traits["positions"] else ""
    lines = [lead + names[0].ljust(room - len(lead)) + "".join(names[k].rjust(side) for k in kept[1:])]
    running = 0
    for place, item in enumerate(facts.items, 1):
        cells = [item.text, paper.quantity(item.quantity), paper.priced(item.unit), paper.priced(item.total)]
        mark = f"{place:<5}" if traits["positions"] else ""
        text, rest = cells[0], ""
        if paper.rng.random() < 0.15:
            text, _, rest = cells[0].partition(" ")
        lines.append(mark + text.ljust(room - len(mark)) + "".join(cells[k].rjust(side) for k in kept[1:]))
        if rest:
            lines.append(" " * len(mark) + rest)
        running += item.total
        if place == 12 and len(facts.items) > 13:
            lines += _page_break(paper, running, width)
    return [*lines, "", *paper.before_totals()]


def _page_break(paper: Paper, running: int, width: int) -> list[str]:
    words = paper.supplier.words
    amount = paper.priced(running)
    pages = [words["page"].format(n=n, m=2) for n in (1, 2)]
    ends = [_between(words[key].format(n=1), amount, width) for key in ("carried", "brought")]
    return [ends[0], "", pages[0], f"\f{paper.name()}   {pages[1]}", ends[1]]


def _sums(paper: Paper, width: int) -> list[str]:
    """Sums at the right edge; the table of the tax before or after them."""
    pairs, notes, table = paper.totals()
    pad = max(len(label) for label, _ in pairs) + 2
    start = max(0, width - pad - 16)
    lines = [f"{' ' * start}{label:<{pad}}{value:>16}" for label, value in pairs]
    taxes = _table(table, 16)
    parts = [*taxes, "", *lines] if paper.supplier.traits["width"] % 2 else [*lines, "", *taxes]
    return [*parts, *notes, *paper.note()]


def finished(lines: Sequence[str]) -> str:
    """The text: glue is space again, and no line ends in spaces."""
    text = "\n".join(lines).replace(GLUE, " ")
    trimmed = [line.rstrip(" ") for line in text.split("\n")]
    kept = [line for at, line in enumerate(trimmed) if line or (at and trimmed[at - 1])]
    return "\n".join(kept).strip("\n")
