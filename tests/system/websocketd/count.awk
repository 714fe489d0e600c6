#!/usr/bin/awk -f
# Counts to five.
BEGIN { for (number = 1; number <= 5; number++) print number }
