"""One engine over many processes: what travels between them, and who agrees on what."""
