"""How many rounds of self-reflection the compiled DAG holds."""

MAX_ROUNDS = 3
"""Loops are unrolled at compile time; a preset may use fewer rounds. The official code stops at three."""
