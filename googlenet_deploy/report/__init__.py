"""One-file HTML and Markdown reports."""
