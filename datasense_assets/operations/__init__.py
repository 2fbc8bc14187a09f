"""What operators look at and do: metrics and health, the doctor, keys, backups, the life of an organisation."""
