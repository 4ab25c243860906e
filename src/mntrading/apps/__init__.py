"""What people and programs use the project through: the API, and the catalog it reads, which never writes."""
