"""Vocabulary for procedural clips, also used by the caption grammar."""

PITCH_WORDS: dict[str, tuple[str, ...]] = {
    "low": ("low", "deep", "low pitched"),
    "middle": ("mid pitched", "medium"),
    "high": ("high", "high pitched"),
}

TEMPO_WORDS: dict[str, tuple[str, ...]] = {
    "single": ("once", "a single time"),
    "slow": ("repeating slowly", "again and again slowly"),
    "fast": ("repeating quickly", "in quick succession"),
    "continuous": ("continuously", "without a pause"),
}

LOUDNESS_WORDS: dict[str, tuple[str, ...]] = {"quiet": ("quiet", "soft", "faint"), "normal": (), "loud": ("loud",)}

TEXTURE_WORDS: dict[str, tuple[str, ...]] = {"dull": ("dull", "muffled"), "plain": (), "bright": ("bright", "sharp")}

BACKGROUND_WORDS: dict[str, tuple[str, ...]] = {
    "hiss": ("hiss", "static"),
    "wind": ("wind", "gusts of wind"),
    "rumble": ("rumble", "distant traffic"),
    "hum": ("hum", "electric hum"),
}

BACKGROUND_PHRASES: tuple[str, ...] = ("with {} in the background", "over {}", "and {}", "with {} behind it")
