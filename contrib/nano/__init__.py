"""The corpus from which the shipped `nano` weights are trained; `corpus.py` puts it together."""
