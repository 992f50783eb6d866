"""``farkas certify``: questions about data sets, with thresholds, kept results and a report."""
