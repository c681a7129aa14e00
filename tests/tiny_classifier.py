"""The shape of a real AST that trains in seconds."""

from common.config.classifier import ASTArchitecture

ARCHITECTURE = ASTArchitecture(
    hidden_size=16,
    layers=1,
    heads=2,
    intermediate_size=32,
    patch_size=8,
    frequency_stride=8,
    time_stride=8,
    max_length=48,
    num_mel_bins=32,
)
