# Licensed under the Apache License, Version 2.0; see LICENSE.
# mpm: all
# seconds: 300
#
# Names on demand: the first handshake for an allowed name obtains its certificate, in the
# handshake; one order for each name, however many clients come at once.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(https_get handshake_all);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until);

use constant {
    NEW_NAMES   => 100,
    CLIENTS     => 20,
    CROWD       => 64,
    INTERNAL    => 80,
    NO_NAME     => 112,
};

my $pebble = Autocert::Pebble->new;
$pebble->start;
my $mpm = Autocert::Server::mpm_of_run();
# A handshake that waits holds a worker: enough of them for the crowd below and the CA's validation.
my $server = Autocert::Server->with_ca($pebble, wait => '60s 80',
    $mpm eq 'prefork' ? (start_servers => 40, max_workers => 100)
        : (threads => 50, server_limit => 4),
    config => <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    ServerAlias *
    AutocertHostPolicy match [a-z]{1,8}[0-9]{0,4}\.(demand|crowd)\.test
</VirtualHost>
CONF
ok $server->start, 'httpd starts' or exit 1;
my $root = $pebble->root;
my %visit = (port => $server->https, ca => $root, timeout => 60);

for my $tls ('1.2', '1.3') {
    (my $name = "first$tls.demand.test") =~ s/\.(?=\d)//;
    my $seen = https_get(%visit, sni => $name, tls => $tls);
    ok $seen->{ok}, "TLS $tls: the first handshake for a name succeeds" or diag $seen->{error};
    is_deeply $seen->{names}, [$name], "TLS $tls: with its certificate";
    is $seen->{status}, 200, "TLS $tls: and the page";
    is $pebble->orders, $tls eq '1.2' ? 1 : 2, "TLS $tls: by one order";
    my $again = https_get(%visit, sni => $name, tls => $tls);
    is $again->{serial}, $seen->{serial}, "TLS $tls: the second handshake gets the same";
}
my $refused = https_get(%visit, sni => 'other.example.test');
is $refused->{alert}, NO_NAME, 'a name that no line allows: unrecognized_name' or diag $refused->{error};

my $before = $pebble->orders;
my $crowd = handshake_all(%visit, names => [('one.crowd.test') x CROWD], clients => CROWD);
# At most half of a child's threads wait; whoever is beyond that is sent away, and comes again.
my @away = grep { !$_->{ok} } @$crowd;
cmp_ok scalar(@away), '<', CROWD / 2, 'a crowd of clients for one new name is served'
    or diag join "\n", map { $_->{error} // () } @$crowd;
is scalar(grep { ($_->{alert} // 0) != INTERNAL } @away), 0, 'or sent away with internal_error';
is $pebble->orders, $before + 1, 'by one order';

$before = $pebble->orders;
my @names = map { sprintf 'host%03d.demand.test', $_ } 1 .. NEW_NAMES;
my $all = handshake_all(%visit, names => \@names, clients => CLIENTS);
is scalar(grep { $_->{ok} } @$all), NEW_NAMES, 'many new names from many clients at once'
    or diag join "\n", map { $_->{error} // () } @$all;
is $pebble->orders, $before + NEW_NAMES, 'as many orders as names';
my %serials = map { ($_->{serial} // '') => 1 } @$all;
is scalar(keys %serials), NEW_NAMES, 'as many certificates as names';

done_testing;
