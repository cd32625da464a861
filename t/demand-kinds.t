# Licensed under the Apache License, Version 2.0; see LICENSE.
# mpm: all
# seconds: 300
#
# Kinds of key by client: the second type of AutocertKeyTypes is obtained when a client comes that cannot use
# the first. Scans without SNI, by address, and by clients that can use no configured type cause nothing.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(https_get handshake handshake_all);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until);

use constant {
    NAMES        => 300,
    LIVE_SECONDS => 60,
};

my $rsa_only = 'ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384';

sub new_server
{
    my ($pebble, $config) = @_;
    return Autocert::Server->with_ca($pebble, threads => 20, config => $config);
}

subtest 'two kinds' => sub {
    my $pebble = Autocert::Pebble->new;
    $pebble->start;
    my $server = new_server($pebble, <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain listed.kinds.test
    AutocertHostPolicy match n[0-9]{1,4}\.kinds\.test
    AutocertKeyTypes p256 rsa2048
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    my %visit = (port => $server->https, ca => $pebble->root, timeout => 40);
    ok wait_until(LIVE_SECONDS, sub { -s $server->cache_file('listed.kinds.test') }), 'the listed name is obtained';
    is $pebble->orders, 1, 'with one kind of key only';
    for my $row (['GC-14 a usual client', 'EC', 1], ['a TLS 1.3 client', 'EC', 1, tls => '1.3'],
        ['one that offers X25519 only', 'EC', 1, tls => '1.3', groups => 'X25519'],
        ['GC-15 an RSA client', 'RSA', 2, tls => '1.2', ciphers => $rsa_only],
        ['SE-03 an ECDSA signature without a suite', 'RSA', 2, tls => '1.2', ciphers => $rsa_only],
        ['a TLS 1.3 client that takes RSA signatures only', 'RSA', 2, tls => '1.3', sigalgs => 'RSA-PSS+SHA256'],
        ['one that takes ECDSA only', 'EC', 2, tls => '1.2', ciphers => 'ECDHE-ECDSA-AES128-GCM-SHA256']) {
        my ($what, $type, $orders, %offer) = @$row;
        my $seen = https_get(%visit, sni => 'listed.kinds.test', %offer);
        is $seen->{status}, 200, "$what is served" or diag $seen->{error};
        is $seen->{key_type}, $type, "$what: $type";
        is $pebble->orders, $orders, "$what: $orders orders so far";
    }
    ok -s $server->cache_file('listed.kinds.test+rsa'), 'GC-15 the RSA certificate has a file of its own';

    # X-09: both kinds of a new name at once.
    my %seen;
    my $orders = $pebble->orders;
    for my $n (1 .. 3) {
        my @pids;
        for my $offer ([], [tls => '1.2', ciphers => $rsa_only]) {
            my $pid = fork // die "fork: $!\n";
            if ($pid == 0) {
                my $one = handshake(%visit, sni => "n$n.kinds.test", @$offer);
                POSIX::_exit($one->{ok} ? 0 : 1);
            }
            push @pids, $pid;
        }
        for my $pid (@pids) {
            waitpid $pid, 0;
            is $?, 0, "X-09 F44 n$n: both clients are served";
        }
    }
    is $pebble->orders, $orders + 6, 'X-09 by one order each';
    unlike $server->log_since(0), qr/AC0120/, 'X-09 and no validation went wrong';
    ok $server->stop, 'httpd stops';
};

subtest 'scans' => sub {
    my $pebble = Autocert::Pebble->new;
    $pebble->start;
    my $server = new_server($pebble, <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match n[0-9]{1,4}\.scan\.test
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    my @names = map { "n$_.scan.test" } 1 .. NAMES;
    my $seen = handshake_all(port => $server->https, names => \@names, clients => 4, tls => '1.2',
        ciphers => $rsa_only);
    is scalar(grep { $_->{ok} || defined $_->{serial} } @$seen), 0,
        'RSA-only clients over many names: no certificate is seen, no self-signed one either';
    for my $tls ('1.2', '1.3') {
        for my $n (1 .. 5) {
            my $one = handshake(port => $server->https, tls => $tls);
            ok !$one->{ok} && !defined $one->{serial}, "TLS $tls: without SNI ($n): none";
        }
        my $one = handshake(port => $server->https, sni => '127.0.0.1', tls => $tls);
        ok !$one->{ok} && !defined $one->{serial}, "TLS $tls: by address: none";
    }
    is $pebble->orders, 0, 'and no order was caused';
    ok $server->stop, 'httpd stops';
};

done_testing;
