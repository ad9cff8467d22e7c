"""Studies: tables of configs times seeds, with mean and spread; see `study`."""
