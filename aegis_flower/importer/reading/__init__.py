"""Files as batches of Arrow columns may be read here: one function per format; what a value means is not known here."""
