"""Linear networks: moments of two layers, and revealed directions of deep ones."""
