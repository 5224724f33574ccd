"""Inspections of pictures from the command line: trained, measured, and used on a folder."""
