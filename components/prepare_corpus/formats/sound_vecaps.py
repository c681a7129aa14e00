"""Sound-VECaps (arXiv 2407.04416): captions of AudioSet clips, written by a language model from audio and video.

`Sound-VECaps_audio.csv` has the columns `id` (`Y` and the YouTube id) and `caption`; others are ignored.

Source: columns as github.com/mnuhurr/text-sed, `prepare_captions.py` at 7327fa771520d734d684d01a90db0e6c7063f059 reads
them; not verified against the file itself, nor whether the full variant (which also describes what is only seen) has
the same columns.
"""

from components.prepare_corpus.captions import clean_youtube_id, table_format

FORMAT = table_format(
    ("id", "caption"), "id and caption", lambda cells: (clean_youtube_id(cells["id"]), cells["caption"])
)
