"""Where things are kept: folders of this machine or of a shared file system, and object stores that fsspec knows."""
