"""Mathematics without a network: activations, Gaussian averages, losses, time stepping."""
