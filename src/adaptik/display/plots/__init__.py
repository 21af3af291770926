"""Pictures: from studies and labelled data sets to matplotlib axes; they never solve."""
