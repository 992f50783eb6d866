"""What is measured, and with which confidence: exact intervals, sampling, smoothing."""
