#!/usr/bin/awk -f
# Prints its environment.
BEGIN { for (name in ENVIRON) print name "=" ENVIRON[name] }
