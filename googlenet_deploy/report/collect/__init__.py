"""From what the other packages hand out to the parts of a `Results`."""
