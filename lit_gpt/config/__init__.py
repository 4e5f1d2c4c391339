"""From typed words and YAML to checked values: config files, class paths, schema, limits, error messages."""
