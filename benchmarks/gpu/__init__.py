"""The parts of gpu_minutes.py."""
