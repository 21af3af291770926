"""Neurons of one hidden layer as samples: their law, the predictor they carry, how they move."""
