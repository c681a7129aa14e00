"""Audio: files, and signals as arrays."""

AUDIO_SUFFIXES = frozenset(
    {
        *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mpga"),
        *(".mp2", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".sph", ".nist", ".voc"),
    }
)
"""Suffixes of files taken as audio; the content decides whether they can be read."""

FOREIGN_SUFFIXES = frozenset(
    {
        *(".m4a", ".m4b", ".m4p", ".m4r", ".mp4", ".m4v", ".aac", ".adts", ".ac3", ".eac3", ".dts"),
        *(".wma", ".wmv", ".asf", ".webm", ".weba", ".mka", ".mkv", ".mov", ".avi", ".3gp", ".3ga"),
        *(".3g2", ".amr", ".awb", ".ape", ".wv", ".tta", ".tak", ".mpc", ".spx", ".gsm", ".ra"),
        *(".ram", ".rm", ".dsf", ".dff", ".qcp", ".mpg", ".mpeg", ".vox", ".alac"),
    }
)
"""Suffixes of sound and video files in formats that cannot be read."""
