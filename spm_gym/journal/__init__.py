"""The record of a run: writer, reader, schema."""
