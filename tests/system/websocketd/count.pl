#!/usr/bin/perl
# Counts to five.
use strict;
use warnings;
$| = 1;
print "$_\n" for 1 .. 5;
