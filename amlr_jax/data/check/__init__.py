"""Checks a data set before training and reports all faults in one run.

    python -m amlr_jax.data.check --config=FILE[:variant] [--output=DIR]

`check_data` lists the frames with the readers of training and reads each of them
(`facts`); `rules` and `depth` judge these facts, `findings` and `picture` report them.
"""
