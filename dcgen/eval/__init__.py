"""Figures of merit for reconstructed and generated scenes. Reads types alone."""
