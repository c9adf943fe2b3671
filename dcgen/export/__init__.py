"""Scenes out of the house: pictures, films, summaries. Everything here reads dcgen.types and scene files alone."""
