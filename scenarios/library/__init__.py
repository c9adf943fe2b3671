"""Maps and scenario files of the project's own; `make_maps.py` writes the maps."""
