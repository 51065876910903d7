"""Turn an INT8 TFLite graph into C11: memory plan, constant tables, one call per operator."""
