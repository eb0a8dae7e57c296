"""The report's sections, one file each; each turns results into blocks."""
