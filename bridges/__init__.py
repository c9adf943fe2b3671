"""The outside world: simulators, planners, public data sets. Heavy imports live inside functions."""
