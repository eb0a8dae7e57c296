"""The Jetson modules: one profile each, and the code that reads the profiles."""
