"""The built-in corpus of procedural sounds, and the demo dataset made from it."""

from common.procedural.captions import spell, write_caption
from common.procedural.clips import CLASSES, ClipAttributes, ProceduralClip, make_clip, render_clip
from common.procedural.demo import DEMO_LABELS, DemoClip, demo_clips, record

__all__ = [
    "CLASSES",
    "DEMO_LABELS",
    "ClipAttributes",
    "DemoClip",
    "ProceduralClip",
    "demo_clips",
    "make_clip",
    "record",
    "render_clip",
    "spell",
    "write_caption",
]
