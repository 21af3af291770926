"""Results as people see them: figures and pages; nothing here solves."""
