"""Charts as inline SVG: no scripts, colours from the page's style sheet, every mark with its numbers as a tooltip."""
