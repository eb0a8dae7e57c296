"""From a model to an engine: request, plan, build, and what is said about it."""
