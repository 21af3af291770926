"""Several hidden layers: the choice of a method, ensembles, revealed populations."""
