"""Studies: tables of configs, each trained with several seeds, with mean and spread."""
