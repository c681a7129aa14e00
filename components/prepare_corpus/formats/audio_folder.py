"""An AudioFolder's `metadata.csv`, as the library datasets writes it: `file_name`, `caption` and, where known, `label`.

`metadata.jsonl` is read by `plain`, as all JSON lines are.
"""

from components.prepare_corpus.captions import Format, convert, read_table
from components.prepare_corpus.formats.plain import EXPECTED, rows_of

_COLUMNS = ("file_name", "caption")
FORMAT = Format(
    lambda path, on_bad, seed: convert(read_table(path, on_bad, _COLUMNS, EXPECTED), rows_of, on_bad),
    frozenset(_COLUMNS),
)
