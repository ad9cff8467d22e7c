"""Readers, splits, augmentation and loading: numpy, grain, tensorflow-datasets.

Readers (`kitti`, `nyu`, `custom`, `street`) name frames or views; `prepared` and
`views` check and keep them, `loader` and `views.loader` make batches; `sources` does
all of it from a config, and `check` looks for every fault before.
"""
