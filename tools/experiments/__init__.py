"""What measured tables are made of: models and inputs, cells that are measured once, pictures, documents filled from CSVs."""
