"""Stages: the functions that the workflow calls, one module for each rule: files in, files out."""
