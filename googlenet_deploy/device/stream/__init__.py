"""Classifying a sequence of frames: files, videos, cameras and watched folders."""
