# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 900
#
# Certificates of 45 seconds, with handshakes all the time: none fails, none sees a certificate that has
# expired, and the number of orders is what the rule for renewals says. In a run of all tests for a minute and a
# half; "make soak" does it for ten (AUTOCERT_SOAK_SECONDS).

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use POSIX ();
use Time::HiRes ();

use Autocert::Client qw(handshake load_start load_stop);
use Autocert::Events qw(events count_events vhosts all_stored);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until nap);

use constant {
    LIFETIME       => 45,
    SPREAD         => 0.02,     # of the lifetime: so much earlier may one be renewed
    GRAIN          => 2,        # seconds: certificates begin at a whole second, and an order takes a moment
    NAMES          => 6,
    OBTAIN_SECONDS => 60,
    PAUSE          => 0.1,
};

my $seconds = $ENV{AUTOCERT_SOAK_SECONDS} // 90;
my @names = map { "soak$_.example.test" } 1 .. NAMES;
my $pebble = Autocert::Pebble->new(lifetime => LIFETIME)->start;
my $server = Autocert::Server->with_ca($pebble, config => vhosts(@names));
ok $server->start, 'httpd starts' or exit 1;
ok all_stored($server, OBTAIN_SECONDS, @names), 'all names are obtained' or exit 1;
my $root = $pebble->root;
ok wait_until(10, sub {
    return !grep { !handshake(port => $server->https, sni => $_, ca => $root)->{ok} } @names;
}), 'and served' or exit 1;

# Verified as a browser does, dates included.
my @loads = map { load_start(port => $server->https, ca => $root, sni => \@names, pause => 0.01) } 1, 2;
my $begun = Time::HiRes::time();
my ($looks, @bad, %serials) = (0);
while ((my $now = Time::HiRes::time()) < $begun + $seconds) {
    for my $name (@names) {
        my $seen = handshake(port => $server->https, ca => $root, sni => $name);
        $looks++;
        if (!$seen->{ok}) {
            push @bad, "$name: $seen->{error}";
            next;
        }
        push @bad, "$name: expired" if $seen->{not_after} <= $now;
        $serials{$name}{ $seen->{serial} } = 1;
    }
    nap(PAUSE);
}
is scalar(@bad), 0, "$looks looks: every one was good" or diag join "\n", splice @bad, 0, 5;
for my $load (@loads) {
    my $result = load_stop($load);
    is $result->{failed}, 0, "no handshake failed of $result->{ok}" or diag $result->{error};
}
my $took = Time::HiRes::time() - $begun;
# Renewed at half of its life, up to the spread and the whole second earlier.
my $least = POSIX::floor($took / (LIFETIME / 2 + GRAIN));
my $most = POSIX::ceil($took / (LIFETIME / 2 - LIFETIME * SPREAD - GRAIN));
for my $name (@names) {
    my $renewals = keys(%{ $serials{$name} }) - 1;
    cmp_ok $renewals, '>=', $least, "$name: renewed as often as the rule says ($renewals)";
    cmp_ok $renewals, '<=', $most, "$name: and not more often";
}
is $pebble->orders, count_events($server, 'AC0110'), 'one order for each certificate';
is count_events($server, 'AC0120'), 0, 'nothing failed';
ok $server->stop, 'httpd stops';

done_testing;
