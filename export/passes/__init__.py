"""Graph passes: one per file, each says whether it changed anything."""
