"""Runners: one protocol for every engine that can execute a model."""
