"""What is known of an engine that was built: its manifest, its layers, its contents."""
