"""Classifying what comes one after another: files, videos, cameras, and folders that fill."""
