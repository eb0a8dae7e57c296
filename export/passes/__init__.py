"""Graph passes, one file each; see `graph.pass_manager` for what a pass promises."""
