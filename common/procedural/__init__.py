"""The built-in corpus of procedural sounds, and the demo dataset made from it."""
