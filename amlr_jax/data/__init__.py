"""Readers, splits, augmentation and loading: numpy, grain, tensorflow-datasets.

Readers (`kitti`, `nyu`, `custom`) list frames or views. `prepared` and `views` check
and store them, `loader` and `views.batches` make batches. `sources` reads and prepares
the data of a config, and `check` reports every problem of a data set beforehand.
"""
