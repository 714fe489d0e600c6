#!/usr/bin/env python3
"""Prints its environment, sorted."""
import os

for name, value in sorted(os.environ.items()):
    print(f"{name}={value}", flush=True)
