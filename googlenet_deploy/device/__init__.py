"""The part that is deployed to the Jetson: Python 3.8, NumPy and Pillow or OpenCV, nothing else."""
