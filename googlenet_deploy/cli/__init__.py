"""Command line: one file per command; arguments are parsed before anything heavy is imported."""
