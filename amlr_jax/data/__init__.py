"""Readers, splits, augmentation and loading: numpy, grain, tensorflow-datasets."""
