"""End-to-end deployment for one target: steps, skipping of unchanged ones, gates, and the report."""
