"""Posteriors: saddles of the action, chains of neurons, the closed form of linear networks."""
