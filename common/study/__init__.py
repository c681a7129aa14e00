"""A benchmark study: cells of (dataset, n), their costs, and the published figures for comparison."""
