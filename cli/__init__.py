"""The command `teo`: one noun a file; everything is wired together here."""
