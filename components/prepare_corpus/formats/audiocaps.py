"""AudioCaps: human captions of AudioSet clips, five per clip in its validation and test files.

A CSV `audiocap_id,youtube_id,start_time,caption`, with the start in whole seconds.

Source: github.com/cdjkim/audiocaps, `dataset/train.csv`, `dataset/val.csv` and `dataset2.0/val.csv` at
d004db3ea1b01cf4fd0347dd8d27db90cadc8809, read in full; the longest of the 49 838 training captions has 292 characters.
"""

from components.prepare_corpus.captions import segment_id, table_format

FORMAT = table_format(
    ("youtube_id", "start_time", "caption"),
    "audiocap_id, youtube_id, start_time and caption",
    lambda cells: (segment_id(cells["youtube_id"], cells["start_time"]), cells["caption"]),
)._replace(columns=frozenset({"audiocap_id", "youtube_id", "start_time", "caption"}))
