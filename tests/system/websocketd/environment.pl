#!/usr/bin/perl
# Prints its environment, sorted.
use strict;
use warnings;
$| = 1;
print "$_=$ENV{$_}\n" for sort keys %ENV;
