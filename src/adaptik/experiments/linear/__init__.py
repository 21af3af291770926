"""Linear networks: closed forms, simulations of finite samples, trained networks."""
