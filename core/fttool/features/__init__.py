"""Features of a base model that never trains: computed once per row and kept, so an update costs the head alone."""
