"""What recognises the kinds that redaction removes. One kind each, by shape, check digits and short lists, in linear
time; a `Find` gives the spans of its kind in a text of plain characters, and may overlap with others."""
