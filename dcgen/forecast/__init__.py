"""Forecasting: frames that were seen and the ego's motion in, occupancy of the next seconds out."""
