"""The commands of `directions`, by what they are for."""
