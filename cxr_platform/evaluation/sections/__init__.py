"""The parts of the report, one module a topic."""
