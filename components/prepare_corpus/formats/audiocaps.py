"""AudioCaps: human captions of AudioSet clips, five per clip in its validation and test files.

A CSV `audiocap_id,youtube_id,start_time,caption`, with the start in whole seconds.

Source: github.com/cdjkim/audiocaps, `dataset/train.csv`, `dataset/val.csv` and `dataset2.0/val.csv` at
d004db3ea1b01cf4fd0347dd8d27db90cadc8809, read in full; the longest of the 49 838 training captions has 292 characters.
"""

from __future__ import annotations

from components.prepare_corpus.captions.records import BadRow, CaptionRow, clean_caption, clean_youtube_id
from components.prepare_corpus.captions.tables import table_format

_LAST_START_S = 10**6


def _rows(cells: dict[str, str]) -> list[CaptionRow]:
    try:
        start_s = float(cells["start_time"])
    except ValueError:
        start_s = -1.0
    if not 0 <= start_s < _LAST_START_S:
        raise BadRow("start_time", f"expected seconds from the start of the video, found {cells['start_time']!r:.60}")
    clip_id = f"{clean_youtube_id(cells['youtube_id'])}_{round(start_s * 1000)}"
    return [CaptionRow(clip_id, None, clean_caption(cells["caption"]), None)]


FORMAT = table_format(
    ("youtube_id", "start_time", "caption"), "audiocap_id, youtube_id, start_time and caption", _rows
)._replace(columns=frozenset({"audiocap_id", "youtube_id", "start_time", "caption"}))
