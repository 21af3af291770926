"""One hidden layer: particles, their flow, frozen kernels, rest and collapse."""
