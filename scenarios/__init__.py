"""Files in, conditions out: maps, routes, agents and scenario files, without torch."""
