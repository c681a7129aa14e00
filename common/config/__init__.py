"""Typed configuration: one model per stage, one `RunConfig` that holds them."""
