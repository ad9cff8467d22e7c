"""Checks a data set before training: every fault in one run, none stops it.

    python -m amlr_jax.data.check --config=FILE[:variant] [--output=DIR]

`check_data` lists the frames with the readers that training uses and reads each of them
(`facts`); `rules` and `depth` judge what was read, `findings` and `picture` show it.
"""
