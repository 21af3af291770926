"""Mathematics without state: Gaussian averages, losses, Hamiltonian moves."""
