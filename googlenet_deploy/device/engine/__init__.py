"""Information about a built engine: its manifest, its layers and its contents."""
