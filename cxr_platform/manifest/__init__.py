"""The validated Parquet manifest: schema, folds, building, storage."""
