# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The CA reaches one of the two ports only: the other challenge stands in, whichever of them
# the configuration prefers, and is what is tried first from then on.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(https_get);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports);

use constant OBTAIN_SECONDS => 60;

my $config = <<'CONF';
AutocertCA @pebble@ cafile=@cafile@
AutocertAcceptTOS on
AutocertCache dir:@cache@
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain usual.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain turned.example.test
    AutocertChallenges http-01 tls-alpn-01
</VirtualHost>
CONF

for my $row (['GC-01', 'http', 'http-01', 'tls-alpn-01', 'turned'],
    ['GC-02', 'https', 'tls-alpn-01', 'http-01', 'usual']) {
    my ($id, $closed, $bad, $good, $unlucky) = @$row;
    my ($http, $https, $dead) = free_ports(3);
    my %reached = (http => $http, https => $https, $closed => $dead);
    my $pebble = Autocert::Pebble->new(%reached);
    $pebble->start;
    my $server = Autocert::Server->new(http => $http, https => $https, vars => $pebble->vars,
        config => $config);
    ok $server->start, "$id: httpd starts" or exit 1;
    for my $short (qw(usual turned)) {
        my $name = "$short.example.test";
        my $got = $server->wait_for_log(
            qr/AC0110: autocert: \Q$name\E: obtained from \S+ by (\S+) in/, OBTAIN_SECONDS);
        is $got, $good, "$id $name: $bad is unreachable, $good does it";
        my $seen = https_get(port => $https, sni => $name, ca => $pebble->root);
        is $seen->{status}, 200, "$id $name: is served" or diag $seen->{error};
    }
    my $log = $server->log_since(0);
    like $log, qr/AC0113: autocert: $unlucky\.example\.test: \Q$bad\E failed: .*\S/,
        "$id: the log says what failed, and why";
    my @failed = $log =~ /AC0113: autocert: (\S+): /g;
    is_deeply \@failed, ["$unlucky.example.test"], "$id: which is tried first where preferred";
    is $pebble->orders, 3, "$id: one more order than names";
    $server->stop;

    # What worked is remembered: no failure the next time. The account is a new one: Pebble uses one valid
    # authorization in a hundred again although it is told not to.
    unlink $server->cache_file("$unlucky.example.test") or die "unlink: $!\n";
    unlink glob($server->cache_file('acme_account*')), glob($server->cache_file('.autocert/account*'))
        or die "unlink: $!\n";
    my $mark = $server->mark;
    ok $server->start, "$id: httpd starts again" or exit 1;
    my $got = $server->wait_for_log(
        qr/AC0110: autocert: \Q$unlucky\E\.example\.test: obtained from \S+ by (\S+) in/,
        OBTAIN_SECONDS, $mark);
    is $got, $good, "$id: $good again";
    unlike $server->log_since($mark), qr/AC0113/, "$id: and $bad was not tried before it";
    $server->stop;
    $pebble->stop_all;
}

done_testing;
