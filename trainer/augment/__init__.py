"""Augmentation of whole batches on any device."""
