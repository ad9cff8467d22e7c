"""Checks a data set before training: every fault in one run, none stops it.

    python -m amlr_jax.data.check --config=FILE[:variant] [--output=DIR]

`listing` finds the frames, `facts` reads each of them, the `rules_*` modules judge what
was read, `report` and `sheet` show it; `run` puts them together.
"""
