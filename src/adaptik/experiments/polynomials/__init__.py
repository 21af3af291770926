"""Single-index polynomials, learned one after the other."""
