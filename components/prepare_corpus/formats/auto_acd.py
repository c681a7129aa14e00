"""Auto-ACD (arXiv 2309.11500): captions of AudioSet and VGGSound clips from several models and a language model.

Its `train.csv` has the columns `youtube_id` and `caption`; the id may carry a `Y` or a start, which is left out of the
clip id, since its unit is not stated.

Source: columns as github.com/KarthikKolluriKB/CARD, `scripts/data/prepare_autoacd.py` at
3fadbcb4824c6ab0dad6fa1bef4cea8e89a6e405 reads them, and as the README of huggingface.co/datasets/Loie/Auto-ACD names
them (`# YouTube ID, caption`); not verified against the file itself.
"""

from components.prepare_corpus.captions import clean_youtube_id, table_format

FORMAT = table_format(
    ("youtube_id", "caption"),
    "youtube_id and caption",
    lambda cells: (clean_youtube_id(cells["youtube_id"]), cells["caption"]),
)
