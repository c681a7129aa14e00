"""A benchmark study: cells of (dataset, n), what they cost, and the published figures beside them."""
