"""A challenger beside what serves: which live turns may judge it, both answers to each, and who was right."""
