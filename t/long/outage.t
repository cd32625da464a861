# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# F47: a CA that is down for most of the second half of its certificates' life (scaled: certificates of a
# day, down for ten of the last twelve hours; here of a minute, down for 25 of the last 30 seconds). Every one
# of them is renewed before it expires, and no client ever sees an expired one or a failure. The CA comes
# back without its memory, as a new one would: accounts are made anew (F26).

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use Time::HiRes ();

use Autocert::Client qw(handshake load_start load_stop);
use Autocert::Events qw(events count_events vhosts all_stored);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until);

use constant {
    LIFETIME       => 60,
    DOWN           => 25,
    OBTAIN_SECONDS => 60,
    NAMES          => 12,
};

my @names = map { sprintf 'day%02d.example.test', $_ } 1 .. NAMES;
my $pebble = Autocert::Pebble->new(lifetime => LIFETIME)->start;
my $server = Autocert::Server->with_ca($pebble, config => vhosts(@names));
ok $server->start, 'httpd starts' or exit 1;
ok all_stored($server, OBTAIN_SECONDS, @names), 'all names are obtained' or exit 1;
my %before = map { $_ => handshake(port => $server->https, sni => $_) } @names;
my ($earliest) = sort { $a <=> $b } map { $_->{not_after} } values %before;
my $load = load_start(port => $server->https, sni => \@names, pause => 0.02);

# Before the first of them is due, which is at half of its life, less the spread.
my $mark = $server->mark;
ok wait_until(LIFETIME, sub { Time::HiRes::time() >= $earliest - LIFETIME / 2 - 2 }), 'the time comes';
is count_events($server, 'AC0110', $mark), 0, 'none is renewed yet';
$pebble->stop;
ok wait_until(2 * LIFETIME, sub { Time::HiRes::time() >= $earliest - LIFETIME / 2 + DOWN }),
    'the CA is down meanwhile';
is count_events($server, 'AC0110', $mark), 0, 'nothing was renewed';
cmp_ok count_events($server, 'AC0130', $mark), '>', 3, 'it was tried again and again';
is count_events($server, 'AC0120', $mark), 0, 'which is no failure of any name';
$pebble->start_ca;
ok wait_until(OBTAIN_SECONDS, sub {
    my %renewed = map { $_->{name} => 1 } events($server, 'AC0110', $mark);
    return keys %renewed == NAMES;
}), 'it comes back, and all are renewed';
my @late;
for my $line (events($server, 'AC0110', $mark)) {
    push @late, $line->{name} if $line->{time} >= $before{ $line->{name} }{not_after};
}
is "@late", '', 'each before the end of the old one';
my $result = load_stop($load);
is $result->{failed}, 0, "no handshake failed of $result->{ok}" or diag $result->{error};
my @expired = grep { handshake(port => $server->https, sni => $_)->{not_after} <= time } @names;
is "@expired", '', 'none is expired';
ok $server->stop, 'httpd stops';

done_testing;
