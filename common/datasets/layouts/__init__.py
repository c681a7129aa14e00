"""Readers of published datasets, one module per native layout; its name is the reader's.

A reader is a module with `list_clips(root) -> Listing`: it lists the clips of the unpacked dataset, with label,
group, and official split or fold, from the metadata alone, and raises DataError if the layout is not
the expected one. Each module's docstring cites the source of the layout.
"""
