#!/usr/bin/perl
# Greets each name that it reads.
use strict;
use warnings;
$| = 1;
while (my $name = <STDIN>) {
    chomp $name;
    print "Hello, $name!\n";
}
