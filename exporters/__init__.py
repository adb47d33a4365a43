"""Graph to file or engine, one backend a file. The library behind each is imported only when it is used."""
