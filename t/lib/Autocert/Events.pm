# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What the module under test said about its life, read back from an error log, and
# the configuration of many names.
#
#   my ($elected) = map { $_->{pid} } events($server, 'AC0001');
#   my @order = map { $_->{name} } events($server, 'AC0110', $mark);
package Autocert::Events;

use strict;
use warnings;

use Exporter 'import';
use JSON::PP ();
use POSIX ();

use Autocert::Util qw(slurp spit wait_until);

our @EXPORT_OK = qw(events count_events vhosts missing_names all_stored ledger
    change_ledger);

my %MONTH = do {
    my $n = 0;
    map { $_ => $n++ } qw(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec);
};

my $LINE = qr/^\[\w+ (\w+ [^\]]+)\] \[autocert:(\w+)\] \[pid (\d+)(?::tid \d+)?\] (?:\S+\(\d+\): )?(AC.*)/;
# Of the tests: a name, a wildcard, an address.
my $NAME = qr/(?:\*\.)?[a-z0-9.-]+\.test|\d+(?:\.\d+){3}|[0-9a-f:]*::[0-9a-f:]*/;
my $DATE = qr/^(\w+) +(\d+) (\d+):(\d+):(\d+)(\.\d+) (\d+)$/;

# The lines with this id, behind the mark if one is given, as hashes: time (seconds
# since the epoch, with fractions), level, pid, name (undef for what is about none), text.
sub events
{
    my ($server, $id, $mark) = @_;

    my @found;
    for my $line (split /\n/, $server->log_since($mark)) {
        my ($date, $level, $pid, $rest) = $line =~ $LINE or next;
        next unless $rest =~ s/^\Q$id\E: autocert: //;
        my ($month, $day, $hour, $minute, $second, $fraction, $year) = $date =~ $DATE or next;
        my $time = POSIX::mktime($second, $minute, $hour, $day, $MONTH{$month}, $year - 1900,
            0, 0, -1) + $fraction;
        my ($name, $text) = $rest =~ /^($NAME): (.*)/ ? ($1, $2) : (undef, $rest);
        push @found, { time => $time, level => $level, pid => $pid, name => $name, text => $text };
    }
    return @found;
}

sub count_events
{
    my @found = events(@_);
    return scalar @found;
}

# One virtual host for each name.
sub vhosts
{
    my (@names) = @_;
    return join '', map { <<"CONF" } @names;
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain $_
    Header always set X-Host $_
</VirtualHost>
CONF
}

sub missing_names
{
    my ($server, @names) = @_;
    return grep { !-s $server->cache_file($_) } @names;
}

# Wait until the cache has a certificate for each name.
sub all_stored
{
    my ($server, $seconds, @names) = @_;
    my $stored = wait_until($seconds, sub { return !missing_names($server, @names) });
    Test::Builder->new->diag('missing after ' . $seconds . ' s: '
            . join ' ', missing_names($server, @names)) unless $stored;
    return $stored;
}

sub ledger_file
{
    my ($server, $name) = @_;
    return $server->cache . "/.autocert/$name+state";
}

# What is remembered about a name; undef if there is nothing.
sub ledger
{
    my ($server, $name) = @_;
    my $text = slurp(ledger_file($server, $name)) // return;
    return eval { JSON::PP::decode_json($text) };
}

# Change members of that, of a server that does not run.
sub change_ledger
{
    my ($server, $name, %change) = @_;
    my $record = ledger($server, $name) // die "$name has no ledger\n";
    # Written over, so that it keeps its owner and mode.
    spit(ledger_file($server, $name), JSON::PP->new->canonical->encode({ %$record, %change }));
    return;
}

1;
