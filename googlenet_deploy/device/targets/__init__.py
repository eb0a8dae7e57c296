"""The Jetson modules: one profile each, and what reads them."""
