"""The whole way for one target: steps, what is skipped since nothing changed, gates, and the report."""
