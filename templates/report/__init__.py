"""Templates of the page that ``seqc explain --html`` writes."""
