#!/usr/bin/awk -f
# Greets each name that it reads.
{ print "Hello, " $0 "!"; fflush() }
