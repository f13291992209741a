"""From stored out-of-fold predictions to figures, tables and the report."""
