"""Serves a classifier over HTTP and monitors it, with the standard library only, apart from the model's runner."""
