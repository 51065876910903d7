"""Every run that was measured, kept in a database."""
