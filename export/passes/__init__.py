"""Graph passes, one file each; see `base` for what a pass promises."""
