"""State dicts of PyTorch systems to the variables of our networks.

Each source is a table of `assign.Module`; see `assign.place`.
"""
