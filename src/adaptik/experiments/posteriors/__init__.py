"""Posteriors that are pulled to a sample of the posterior of the source."""
