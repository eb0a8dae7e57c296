"""From a model to an engine: request, plan, build and report."""
